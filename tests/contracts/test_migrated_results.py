"""What becomes of the results of version 0.1, a row each, when the newest schema comes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import reading, writing
from app.adapters.db.migrate import migrate
from app.adapters.db.result_store import SqlResultStore
from app.domain.batch import Usage
from app.domain.lifecycle import Status
from app.services.ports import Written
from tests.contracts.conftest import NOW, result
from tests.contracts.old_database import (
    BEFORE_SECTIONS,
    LONG,
    TOKENS,
    add_batch,
    add_result,
    arrange,
    open_old,
    payload_of,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    yield from open_old(request, tmp_path)


def test_results_of_before_are_in_the_files_of_a_batch_that_goes_on(engine: Engine) -> None:
    arrange(engine)
    migrate(engine)
    store, results = SqlBatchStore(engine), SqlResultStore(engine)

    assert results.recorded("batch_mixed", 0, 9) == {3}
    # A second result of a line that was recorded before is dropped.
    results.record(
        [result(position, batch_id="batch_mixed")._replace(usage=Usage(1, 0, 0, 0)) for position in range(9)]
    )
    assert store.lease("batch_mixed", "mine")
    sealed = store.seal("batch_mixed", "mine", NOW)
    lines = {position: payload for position, _, payload, _ in results.read("batch_mixed")}
    ended = store.finish("batch_mixed", Written(None, None), "mine", NOW)

    assert (sealed.completed, sealed.failed) == (9, 0)
    assert lines == {position: payload_of(3) if position == 3 else b"{}" for position in range(9)}
    assert (ended.completed, ended.usage) == (9, Usage(18, 1, 20, 3))


@pytest.mark.parametrize("status", [Status.FINALIZING, Status.CANCELLING, Status.EXPIRING, Status.FAILED])
def test_a_batch_that_was_ending_has_its_results_and_counts(engine: Engine, status: Status) -> None:
    arrange(engine)

    migrate(engine)

    batch = SqlBatchStore(engine).find(f"batch_{status}")
    assert batch is not None
    assert (batch.completed, batch.failed) == (2, 1)
    rows = list(SqlResultStore(engine).read(f"batch_{status}"))
    assert rows == [(position, position < 2, payload_of(position), Usage(10, 1, 20, position)) for position in range(3)]


def test_a_sealed_batch_of_before_takes_no_result(engine: Engine) -> None:
    add_batch(engine, "batch_1", Status.CANCELLING, total=3, tasks=3, tasks_dispatched=3, sealed_at=NOW)
    add_batch(engine, "batch_2", Status.CANCELLING, total=3, tasks=3, tasks_dispatched=3)

    migrate(engine)

    progress = SqlResultStore(engine).record([result(0), result(0, batch_id="batch_2")])
    assert [part.batch_id for part in progress] == ["batch_2"]


def test_many_and_large_results_are_packed_with_nothing_lost(engine: Engine) -> None:
    sizes = {position: 3_000_000 if position == 700 else 400 for position in range(0, 2_600, 2)}
    add_batch(engine, "batch_1", Status.IN_PROGRESS, plan_blob="plans/p", total=2_600, tasks=2_600, model="small")
    rows = [
        {
            "batch_id": "batch_1",
            "position": at,
            "ok": True,
            "payload": bytes([at % 251]) * size,
            **dict.fromkeys(TOKENS, 1),
        }
        for at, size in sizes.items()
    ]
    names = ", ".join(rows[0])
    with writing(engine) as connection:
        marks = ", ".join(f":{name}" for name in rows[0])
        connection.execute(text(f"INSERT INTO results ({names}) VALUES ({marks})"), rows)

    migrate(engine)

    read = {position: payload for position, _, payload, _ in SqlResultStore(engine).read("batch_1")}
    assert read == {row["position"]: row["payload"] for row in rows}
    with reading(engine) as connection:
        largest = connection.scalars(text("SELECT length(payload) FROM segments ORDER BY 1 DESC")).all()
        models = connection.execute(text("SELECT model, completed, input_tokens FROM section_models")).all()
    assert largest[0] == 3_000_000
    assert largest[1] <= 16 * 1024
    assert models == [("small", 1_300, 1_300)]


def test_results_of_a_model_whose_name_can_not_be_stored_are_counted_as_other(engine: Engine) -> None:
    migrate(engine, BEFORE_SECTIONS)
    # PostgreSQL never took a NUL, and SQLite has no limit for an entry of an index.
    names = [LONG, "m" * 513, "m" * 512, *(["a\0b"] if engine.dialect.name == "sqlite" else [])]
    for number, model in enumerate(names):
        add_batch(engine, f"batch_{number}", Status.IN_PROGRESS, plan_blob="p", total=2, tasks=2, model=model)
        add_result(engine, f"batch_{number}", 0)
    # The columns of SQLite take any number.
    if engine.dialect.name == "sqlite":
        with writing(engine) as connection:
            connection.execute(text(f"UPDATE results SET input_tokens = {2**40}, output_tokens = -1"))

    migrate(engine)

    with reading(engine) as connection:
        counted = connection.execute(text("SELECT batch_id, model, completed FROM section_models ORDER BY batch_id"))
        rows = [tuple(row) for row in counted]
    assert rows == [(f"batch_{number}", name if len(name) == 512 else "other", 1) for number, name in enumerate(names)]
    results = SqlResultStore(engine)
    for number in range(len(names)):
        results.record([result(1, batch_id=f"batch_{number}")._replace(model=names[number])])
        assert [row[2] for row in results.read(f"batch_{number}")] == [payload_of(0), b"{}"]


def test_results_that_are_in_files_are_not_packed(engine: Engine) -> None:
    arrange(engine)
    migrate(engine, BEFORE_SECTIONS)

    migrate(engine)

    with reading(engine) as connection:
        packed = set(connection.scalars(text("SELECT batch_id FROM segments")))
        uncleared = set(connection.scalars(text("SELECT id FROM batches WHERE has_results AND stage IS NOT NULL")))
    assert packed.isdisjoint({"batch_completed", "batch_cancelled", "batch_expired"})
    assert "batch_failed" in packed
    assert uncleared == set()
