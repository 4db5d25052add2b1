"""Every transaction locks sections by batch and number, then batches: so no two wait for each other."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from app.domain.lifecycle import Event
from tests.contracts.conftest import NOW, Stores, result, stores_over

WITHIN_S = 30.0
pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
FIRST_SECTION, LAST_SECTION, BATCH = (
    "sections WHERE batch_id = 'batch_1' AND number = 0",
    "sections WHERE batch_id = 'batch_1' AND number = 1",
    "batches WHERE id = 'batch_1'",
)
OF_NEXT_BATCH = "sections WHERE batch_id = 'batch_2' AND number = 0"
LINES = 3


def record_all(stores: Stores) -> object:
    positions = range(2 * LINES)
    return stores.results.record([result(at, batch_id=name) for at in positions for name in ("batch_2", "batch_1")])


ACTS: dict[str, Callable[[Stores], object]] = {
    "a record": record_all,
    "a cancel": lambda stores: stores.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW),
    "an end": lambda stores: stores.batches.advance("batch_1", Event.GAVE_UP, NOW),
    "a seal": lambda stores: stores.batches.seal("batch_cancelled", "mine", NOW),
}
ORDERS = [
    ("a record", FIRST_SECTION, LAST_SECTION),
    ("a record", LAST_SECTION, OF_NEXT_BATCH),
    ("a record", OF_NEXT_BATCH, BATCH),
    ("a cancel", FIRST_SECTION, LAST_SECTION),
    ("a cancel", LAST_SECTION, BATCH),
    ("an end", FIRST_SECTION, LAST_SECTION),
    ("an end", LAST_SECTION, BATCH),
    ("a seal", FIRST_SECTION.replace("batch_1", "batch_cancelled"), LAST_SECTION.replace("batch_1", "batch_cancelled")),
    ("a seal", LAST_SECTION.replace("batch_1", "batch_cancelled"), BATCH.replace("batch_1", "batch_cancelled")),
]


@pytest.mark.parametrize(("act", "before", "then"), ORDERS)
def test_who_waits_for_a_row_has_those_locked_that_come_before_it(
    engine: Engine, act: str, before: str, then: str
) -> None:
    stores = stores_over(engine)
    for batch_id in ("batch_1", "batch_2", "batch_cancelled"):
        stores.add_mixed(batch_id, {"gpu": LINES, "cpu": LINES})
    stores.batches.advance("batch_cancelled", Event.CANCEL_REQUESTED, NOW)
    stores.batches.lease("batch_cancelled", "mine")

    with ThreadPoolExecutor(1) as pool, engine.connect() as holder:
        lock(holder, then)
        acting = pool.submit(ACTS[act], stores)
        await_waiting(engine, acting)
        with engine.connect() as other, pytest.raises(OperationalError, match="could not obtain lock"):
            lock(other, before, "NOWAIT")
        holder.rollback()
        acting.result(WITHIN_S)


def lock(connection: Connection, rows: str, how: str = "") -> None:
    connection.execute(text(f"SELECT 1 FROM {rows} FOR UPDATE {how}"))


def await_waiting(engine: Engine, acting: Future[object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        assert not acting.done(), acting.result()
        with engine.connect() as connection:
            if connection.execute(WAITING).scalar_one():
                return
    raise AssertionError("it never waits for a lock")
