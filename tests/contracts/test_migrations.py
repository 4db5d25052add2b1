"""What becomes of a database of version 0.1, with a batch in every status, when the newest schema comes and goes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from app.adapters.db.api_key_store import SqlKeyStore
from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import reading
from app.adapters.db.key_store import SqlIdempotencyStore
from app.adapters.db.migrate import migrate, unmigrate
from app.adapters.db.result_store import SqlResultStore
from app.adapters.db.schema import check_schema
from app.domain.lifecycle import ACTIVE, Status
from app.services.ports import Known
from tests.contracts.conftest import result
from tests.contracts.old_database import BEFORE_SECTIONS, OF_0_1, SECTIONS, arrange, open_old


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    yield from open_old(request, tmp_path)


def test_each_batch_of_an_older_version_is_found_for_what_has_to_be_done_for_it(engine: Engine) -> None:
    arrange(engine)

    migrate(engine)

    store = SqlBatchStore(engine)
    ending = {f"batch_{status}" for status in ACTIVE}
    assert {batch.id for batch in store.stalled(100)} == ending
    assert store.active_ids() == ending | {"batch_new", "batch_sending", "batch_sent", "batch_mixed"}
    assert {batch.id for batch in store.undispatched(100)} == {"batch_new", "batch_sending", "batch_mixed"}
    assert {batch.id: [section.recorded for section in batch.sections] for batch in store.in_flight()} == {
        "batch_sending": [1],
        "batch_sent": [1],
        "batch_mixed": [1],
    }
    totals = store.outstanding_totals()
    assert totals["default", "tenant"] == (2, 3)
    assert totals["gpu", "tenant"] == (1, 3)


def test_a_batch_that_ran_goes_on_and_results_of_those_that_ended_are_cleared(engine: Engine) -> None:
    arrange(engine)
    migrate(engine)
    store, results = SqlBatchStore(engine), SqlResultStore(engine)

    assert store.move_cursor("batch_sending", 1, 2)
    assert store.move_cursor("batch_mixed", 2, 3)
    (progress,) = results.record([result(2, batch_id="batch_sending")])
    assert store.lease("batch_finalizing", "new")
    cleared = 0
    while results.clear(100):
        cleared += 1
        assert cleared < 10

    assert progress.lines_outstanding == 1
    with reading(engine) as connection:
        kept = set(connection.scalars(text("SELECT DISTINCT batch_id FROM segments")))
    # Those of a batch that failed are kept.
    assert kept == {f"batch_{name}" for name in (*ACTIVE - {Status.VALIDATING}, "failed", "sending", "sent", "mixed")}


def test_keys_of_an_older_version_are_kept_and_those_without_an_object_forgotten(engine: Engine) -> None:
    arrange(engine)

    migrate(engine)

    (key,) = SqlKeyStore(engine).all()
    assert (key.tenant_id, key.name, key.revoked_at) == ("tenant", "from 0.1", None)
    assert SqlKeyStore(engine).key_hashes(lambda plain: plain[::-1].replace("a", "b")) == 1
    assert SqlKeyStore(engine).find("b" * 64) == key
    # Version 0.1 stored a key before its object: nothing came of this one.
    keys = SqlIdempotencyStore(engine)
    assert keys.get("tenant", "made") == Known("f", "batch_new")
    assert keys.get("tenant", "lost") is None


def test_batches_survive_the_way_back_and_up_again(engine: Engine) -> None:
    arrange(engine)
    migrate(engine)

    unmigrate(engine, OF_0_1)
    migrate(engine)

    store = SqlBatchStore(engine)
    assert {batch.id for batch in store.undispatched(100)} == {"batch_new", "batch_sending", "batch_mixed"}
    mixed = store.find("batch_mixed")
    assert mixed is not None
    assert [tuple(section) for section in mixed.sections] == [tuple(section) for section in SECTIONS]
    assert [row[0] for row in SqlResultStore(engine).read("batch_mixed")] == [3]


def test_processes_that_migrate_at_once_take_turns(engine: Engine) -> None:
    arrange(engine)

    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(migrate, engine) for _ in range(4)]

        assert [each.result(60) for each in done] == [None] * 4

    check_schema(engine)


def test_a_migration_that_is_cut_off_leaves_everything_as_it_was(engine: Engine) -> None:
    arrange(engine)
    migrate(engine, BEFORE_SECTIONS)
    before = rows_of(engine)

    # The last statement but the note of the new revision.
    with cut_off(engine, "UPDATE alembic_version"), pytest.raises(ConnectionAbortedError):
        migrate(engine)

    assert rows_of(engine) == before
    migrate(engine)
    assert SqlResultStore(engine).recorded("batch_mixed", 0, 9) == {3}


@contextmanager
def cut_off(engine: Engine, statement: str) -> Iterator[None]:
    """End the process's part in a transaction before a statement that begins so."""

    def cut(_connection: Any, _cursor: Any, text_of: str, *_: Any) -> None:
        if text_of.startswith(statement):
            raise ConnectionAbortedError

    event.listen(engine, "before_cursor_execute", cut)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", cut)


def rows_of(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with reading(engine) as connection:
        return {
            table: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY 1"))]
            for table in ("alembic_version", "batches", "results")
        }
