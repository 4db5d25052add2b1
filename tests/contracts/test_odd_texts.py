"""No text of a caller or a model server keeps a database from storing the rows of a transaction."""

from random import Random

import pytest
from sqlalchemy import Engine, text

from app.domain.batch import LineError
from app.domain.limits import MAX_MODEL_CHARS
from app.domain.result import Met
from tests.contracts.conftest import NOW, Stores, planned, result, stores_over

# Random characters: PostgreSQL compresses the columns of an index.
LONG = "".join(map(chr, Random(1).choices(range(0x4E00, 0x9FFF), k=100_000)))
LONGEST = "".join(map(chr, Random(2).choices(range(0x1F300, 0x1F5FF), k=MAX_MODEL_CHARS)))
# The names that no index of PostgreSQL takes, or no column.
ODD_NAMES = {
    "with a NUL": "a\0b",
    "a NUL": "\0",
    "half of a surrogate pair": "a\ud800",
    "over the limit": "m" * (MAX_MODEL_CHARS + 1),
    "over an index entry": LONG[:1_000],
    "huge": LONG,
}
PLAIN_NAMES = {
    "empty": ("", ""),
    "none": (None, ""),
    "quotes": ("o'; :name %s %(x)s", "o'; :name %s %(x)s"),
    "the longest": (LONGEST, LONGEST),
}


@pytest.fixture
def stores(engine: Engine) -> Stores:
    return stores_over(engine)


def counts(engine: Engine, batch_id: str) -> dict[str, int]:
    with engine.connect() as connection:
        query = text("SELECT model, completed FROM section_models WHERE batch_id = :id")
        return {row[0]: row[1] for row in connection.execute(query, {"id": batch_id})}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_results_of_a_model_whose_name_can_not_be_stored_are_recorded_and_counted_as_other(
    engine: Engine, stores: Stores, name: str
) -> None:
    for batch_id in ("batch_1", "batch_2"):
        stores.add_running(batch_id)

    stores.results.record(
        [
            result(0)._replace(model=name),
            result(1)._replace(model=f"{name}2"),
            result(0, batch_id="batch_2")._replace(model="m"),
        ]
    )

    assert [row[0] for row in stores.results.read("batch_1")] == [0, 1]
    assert counts(engine, "batch_1") == {"other": 2}
    assert counts(engine, "batch_2") == {"m": 1}


@pytest.mark.parametrize(("name", "counted"), PLAIN_NAMES.values(), ids=PLAIN_NAMES.keys())
def test_results_are_counted_under_any_other_name(
    engine: Engine, stores: Stores, name: str | None, counted: str
) -> None:
    # The longest id of a batch and the longest name of an upstream stand in the same index entry.
    batch_id = f"batch_{'b' * 58}"
    stores.add_batch(batch_id)
    stores.batches.accept(batch_id, planned(3, "u" * 64), NOW)

    stores.results.record([result(0, batch_id=batch_id)._replace(model=name)])

    assert counts(engine, batch_id) == {counted: 1}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_a_batch_for_a_model_whose_name_can_not_be_stored_is_accepted(stores: Stores, name: str) -> None:
    stores.add_batch()

    batch = stores.batches.accept("batch_1", planned(3, model=name), NOW)

    assert batch.total == 3
    assert batch.model is None


def test_a_call_that_met_a_text_that_can_not_be_stored_is_noted(stores: Stores) -> None:
    stores.trials.note({("batch_1", 0): Met(2, "connection_failed: a\0b\ud800c é")})

    assert stores.trials.met("batch_1") == {0: Met(2, "connection_failed: a\N{REPLACEMENT CHARACTER}b?c é")}


def test_errors_of_a_file_with_odd_texts_are_stored(stores: Stores) -> None:
    stores.add_batch()
    error = LineError("model_not_found", "The model 'a\0\ud800' is not there.", 1, "body.model")

    stores.batches.reject("batch_1", [error], NOW)

    batch = stores.batches.find("batch_1")
    assert batch is not None
    assert batch.errors == (error,)
