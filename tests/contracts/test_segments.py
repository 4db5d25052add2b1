"""How results lie in the database: in segments, with counts by model beside them."""

import pytest
from sqlalchemy import Engine, text

from app.domain.batch import Usage
from app.domain.lifecycle import Event
from app.domain.limits import MIB
from tests.contracts.conftest import NOW, Stores, result, stores_over


@pytest.fixture
def stores(engine: Engine) -> Stores:
    return stores_over(engine)


def segments(engine: Engine) -> list[tuple[str, int, int]]:
    """Return batch, section and bytes of each segment, in the order of recording."""
    with engine.connect() as connection:
        query = text("SELECT batch_id, section, length(payload) FROM segments ORDER BY seq")
        return [tuple(row) for row in connection.execute(query)]


def by_model(engine: Engine, batch_id: str = "batch_1") -> dict[tuple[str, str], tuple[int, ...]]:
    query = text(
        "SELECT upstream, model, completed, failed, input_tokens, cached_tokens, output_tokens, reasoning_tokens"
        " FROM section_models WHERE batch_id = :id"
    )
    with engine.connect() as connection:
        return {(row[0], row[1]): tuple(row[2:]) for row in connection.execute(query, {"id": batch_id})}


def test_what_a_commit_brings_is_a_row_for_each_section(engine: Engine, stores: Stores) -> None:
    stores.add_running("batch_1", total=100)
    stores.add_mixed("batch_2")

    stores.results.record(
        [
            *(result(position) for position in range(100)),
            *(result(position, batch_id="batch_2") for position in (0, 101, 1)),
        ]
    )

    assert segments(engine) == [("batch_1", 0, 200), ("batch_2", 0, 4), ("batch_2", 1, 2)]


def test_a_row_is_as_small_as_reads_need_it_but_for_one_larger_result(engine: Engine, stores: Stores) -> None:
    stores.add_running(total=10)
    most = {"sqlite": 16 * 1024, "postgresql": MIB}[engine.dialect.name]
    sizes = [most - 3, 2, 1, 1, 3 * MIB, 1, most]

    stores.results.record([result(position, payload=bytes(size)) for position, size in enumerate(sizes)])

    assert [size for *_, size in segments(engine)] == [most, 1, 3 * MIB, 1, most]


def test_results_that_are_recorded_already_add_no_row(engine: Engine, stores: Stores) -> None:
    stores.add_running(total=3)
    stores.results.record([result(0)])
    before = segments(engine), by_model(engine)

    stores.results.record([result(0), result(0, ok=False)])

    assert (segments(engine), by_model(engine)) == before


def test_results_and_tokens_are_counted_by_model(engine: Engine, stores: Stores) -> None:
    stores.add_mixed()
    of_small, of_large = Usage(1, 2, 3, 4), Usage(100, 0, 200, 0)
    for some in ((0, 1), (2, 51)):
        stores.results.record([result(at)._replace(model="small", usage=of_small) for at in some])
    stores.results.record([result(3, ok=False)._replace(model="large", usage=of_large), result(4)])

    assert by_model(engine) == {
        ("gpu", "small"): (3, 0, 3, 6, 9, 12),
        ("cpu", "small"): (1, 0, 1, 2, 3, 4),
        ("gpu", "large"): (0, 1, 100, 0, 200, 0),
        # A line that names no model.
        ("gpu", ""): (1, 0, 0, 0, 0, 0),
    }


def test_the_counts_by_model_outlive_the_batch_and_make_its_usage(engine: Engine, stores: Stores) -> None:
    stores.add_mixed()
    stores.results.record([result(at)._replace(model=f"m{at}", usage=Usage(at, 0, 1, 0)) for at in (1, 2, 60)])
    stores.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)

    ended = stores.batches.advance("batch_1", Event.FILES_WRITTEN, NOW)
    while stores.results.clear(100):
        pass

    assert ended.usage == Usage(63, 0, 3, 0)
    assert sorted(by_model(engine)) == [("cpu", "m60"), ("gpu", "m1"), ("gpu", "m2")]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM sections")) == 0


def test_a_thousand_models_of_a_batch_are_counted_apart_and_the_rest_together(engine: Engine, stores: Stores) -> None:
    stores.add_running("batch_1", total=2_500)
    stores.add_running("batch_2", total=10)
    for start in (0, 600):
        stores.results.record([result(at)._replace(model=f"m{at}") for at in range(start, start + 600)])
    stores.results.record([result(at + 1_200)._replace(model=f"m{at}") for at in (5, 1_100)])
    stores.results.record([result(0, batch_id="batch_2")._replace(model="m1100")])

    counts = {model: completed for (_, model), (completed, *_) in by_model(engine).items()}

    assert counts == {f"m{at}": 1 for at in range(1_000)} | {"m5": 2, "other": 201}
    assert by_model(engine, "batch_2").keys() == {("default", "m1100")}
