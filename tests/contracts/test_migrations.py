"""What becomes of a database of version 0.1, with a batch in every status, when the newest schema comes and goes."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from app.adapters.db.api_key_store import SqlKeyStore
from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine, reading, writing
from app.adapters.db.key_store import SqlIdempotencyStore
from app.adapters.db.migrate import migrate, unmigrate
from app.adapters.db.result_store import SqlResultStore
from app.adapters.db.schema import check_schema
from app.domain.batch import Usage
from app.domain.lifecycle import ACTIVE, Status
from app.domain.limits import MIB
from app.services.ports import Known, Written
from tests.contracts.conftest import NOW, result

OF_0_1 = "0003"
# The last schema with a row for each result, and with the sections of a batch in its own row.
BEFORE_SECTIONS = "0012"
# Two sections of a batch for two upstreams: 3 of 5 lines and 1 of 4 lines were handed out, by two a task.
SECTIONS = [["gpu", 0, 3, 0, 5, 2, 1], ["cpu", 3, 5, 5, 9, 3, 0]]
HASH = "a" * 64
# Random characters: PostgreSQL compresses the columns of an index.
LONG = "".join(map(chr, Random(1).choices(range(0x4E00, 0x9FFF), k=100_000)))
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    is_sqlite = request.param == "sqlite"
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}" if is_sqlite else request.getfixturevalue("postgres_url"))
    migrate(engine, OF_0_1)
    yield engine
    engine.dispose()


def add(engine: Engine, table: str, **values: Any) -> None:
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    with writing(engine) as connection:
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)


def add_batch(engine: Engine, batch_id: str, status: Status, **values: Any) -> None:
    usual = {
        "tenant_id": "tenant",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-in",
        "completion_window": "24h",
        "created_at": NOW,
        "expires_at": NOW + 86_400,
        "input_blob": f"files/{batch_id}",
    }
    add(engine, "batches", id=batch_id, status=status.value, **(usual | values))


def add_result(engine: Engine, batch_id: str, position: int, *, ok: bool = True) -> None:
    tokens = dict(zip(TOKENS, (10, 1, 20, position), strict=True))
    add(engine, "results", batch_id=batch_id, position=position, ok=ok, payload=payload_of(position), **tokens)


def payload_of(position: int) -> bytes:
    return b"\x00\xff%d" % position


def arrange(engine: Engine) -> None:
    """Add what a deployment of 0.1 that was stopped amid its work may have."""
    for status in Status:
        values: dict[str, Any] = {}
        if status is not Status.VALIDATING:
            values = {"plan_blob": "plans/p", "total": 3, "lines_per_task": 2, "tasks": 2, "tasks_dispatched": 2}
            values |= {"completed": 2, "failed": 1, "has_results": True}
        if status is Status.FINALIZING:
            values |= {"lease_owner": "dead", "lease_until": NOW + 60}
        add_batch(engine, f"batch_{status}", status, **values)
    running = {"plan_blob": "plans/p", "total": 3, "lines_per_task": 2, "tasks": 2}
    add_batch(engine, "batch_new", Status.IN_PROGRESS, **running)
    add_batch(engine, "batch_sending", Status.IN_PROGRESS, **running, tasks_dispatched=1, completed=1)
    add_batch(engine, "batch_sent", Status.IN_PROGRESS, **running, tasks_dispatched=2, completed=1)
    mixed = {"mixed": json.dumps(SECTIONS), "waiting_for": "gpu,cpu", "upstream": "gpu"}
    of_mixed = {"plan_blob": "plans/m", "total": 9, "lines_per_task": 2, "tasks": 5, "tasks_dispatched": 2}
    add_batch(engine, "batch_mixed", Status.IN_PROGRESS, **mixed, **of_mixed, completed=1)
    for status in set(Status) - {Status.VALIDATING}:
        for position in range(3):
            add_result(engine, f"batch_{status}", position, ok=position < 2)
    for batch_id, position in (("batch_sending", 0), ("batch_sent", 2), ("batch_mixed", 3)):
        add_result(engine, batch_id, position)
    add(engine, "api_keys", key_hash=HASH, tenant_id="tenant", created_at=NOW)
    for key, object_id in (("made", "batch_new"), ("lost", "batch_never")):
        add(engine, "idempotency_keys", tenant_id="tenant", key=key, fingerprint="f", object_id=object_id, claimed_at=0)


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
    assert largest[1] <= MIB
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
