"""A fault of a thread is that of others only where they share the fate of their rows."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError

from app.adapters.db.group_commit import GroupCommit
from tests.unit.adapters.commit_house import JOIN_S, WITHIN_S, House, adding, adding_and_failing


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "numbers.db")
    yield house
    house.close()


def test_a_thread_that_fails_undoes_only_its_own_rows(house: House) -> None:
    first, failed, last = house.start_behind([adding_and_failing(2), adding(3)], adding(1))

    with pytest.raises(LookupError, match="2"):
        failed.result(WITHIN_S)
    first.result(WITHIN_S)
    last.result(WITHIN_S)
    assert house.numbers() == [1, 3]
    assert house.commits() == 1


def test_the_first_thread_may_fail_and_the_others_write(house: House) -> None:
    failed, *others = house.start_behind([adding(2), adding(3)], adding_and_failing(1))

    with pytest.raises(LookupError, match="1"):
        failed.result(WITHIN_S)
    for each in others:
        each.result(WITHIN_S)
    assert house.numbers() == [2, 3]


def test_a_thread_that_fails_because_of_rows_of_its_group_waits_for_their_commit(house: House) -> None:
    """A request that finds its Idempotency-Key taken looks up the object of the key, outside the transaction."""

    def add_unless_there(connection: Connection) -> None:
        if connection.scalar(text("SELECT count(*) FROM numbers WHERE number = 1")):
            raise LookupError("taken")

    def look_up() -> list[int]:
        with pytest.raises(LookupError, match="taken"):
            house.write(add_unless_there)
        return house.numbers()

    is_last_at_work, may_end = threading.Event(), threading.Event()

    def wait(_: Connection) -> None:
        is_last_at_work.set()
        assert may_end.wait(WITHIN_S)

    may_first_end = threading.Event()

    def first(connection: Connection) -> None:
        adding(1)(connection)
        assert may_first_end.wait(WITHIN_S)

    started = house.start(first)
    house.await_begin()
    looked_up = house.threads.submit(look_up)
    house.await_waiting(1)
    last = house.start(wait)
    house.await_waiting(2)
    may_first_end.set()
    assert is_last_at_work.wait(WITHIN_S)
    has_looked = looked_up.done()
    may_end.set()

    assert not has_looked
    assert looked_up.result(WITHIN_S) == [1]
    for each in (started, last):
        each.result(WITHIN_S)


def test_a_failing_commit_fails_every_thread_of_the_group(house: House) -> None:
    house.engine.dispose()
    event.listen(house.engine, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys=ON"))

    def own_nothing(connection: Connection) -> None:
        connection.execute(text("INSERT INTO owned VALUES (1)"))

    started = house.start_behind([own_nothing, adding_and_failing(2), adding(3)], adding(1))

    for each in started:
        with pytest.raises(OperationalError, match="FOREIGN KEY"):
            each.result(WITHIN_S)
    assert house.numbers() == []
    house.write(adding(4))
    assert house.numbers() == [4]


def test_a_full_database_leaves_no_thread_in_the_belief_that_its_rows_are_there(house: House) -> None:
    house.engine.dispose()
    event.listen(house.engine, "connect", lambda driver, _: driver.execute("PRAGMA max_page_count=8"))

    def fill(connection: Connection) -> None:
        connection.execute(text("INSERT INTO numbers SELECT zeroblob(1000000)"))

    first, failed, last = house.start_behind([fill, adding(2)], adding(1))

    with pytest.raises(OperationalError, match="full"):
        failed.result(WITHIN_S)
    believed = [number for number, each in ((1, first), (2, last)) if each.exception(WITHIN_S) is None]
    assert house.numbers() == believed


def test_a_transaction_that_ended_within_fails_its_threads(house: House) -> None:
    """SQLite rolls back by itself after some faults: the savepoints are gone as well."""

    def end(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute("ROLLBACK")

    started = house.start_behind([end], adding(1))

    for each in started:
        with pytest.raises(OperationalError):
            each.result(WITHIN_S)
    assert house.numbers() == []
    house.write(adding(2))
    assert house.numbers() == [2]


@pytest.mark.parametrize("others", [1, 2])
def test_no_thread_believes_in_rows_that_a_failing_savepoint_took_away(house: House, others: int) -> None:
    """SQLite rolls back by itself where the disk or the memory fails, whichever statement meets the fault."""
    refused: list[str] = []

    def refuse_once(connection: Connection, name: str) -> None:
        if not refused:
            refused.append(name)
            driver: Any = connection.connection.driver_connection
            driver.execute("ROLLBACK")
            raise sqlite3.OperationalError("disk I/O error")

    event.listen(house.engine, "savepoint", refuse_once)

    started = house.start_behind([adding(2 + number) for number in range(others)], adding(1))

    believed = [number for number, each in enumerate(started, 1) if each.exception(WITHIN_S) is None]
    assert refused
    assert 1 not in believed
    assert house.numbers() == believed


def test_a_transaction_that_ended_between_two_threads_fails_its_threads(house: House) -> None:
    drivers: list[Any] = []
    house.groups = GroupCommit(JOIN_S, turn=_GivingUp(on_release=lambda: drivers.pop().execute("ROLLBACK")))

    def add_and_tell(connection: Connection) -> None:
        adding(1)(connection)
        drivers.append(connection.connection.driver_connection)

    first, gave_up = house.start_behind([adding(2)], add_and_tell)

    with pytest.raises(OperationalError, match="locked"):
        gave_up.result(WITHIN_S)
    with pytest.raises(OperationalError, match="rolled back"):
        first.result(WITHIN_S)
    assert house.numbers() == []


def test_a_fault_of_the_undoing_fails_the_group_and_no_later_one(house: House) -> None:
    def break_and_fail(connection: Connection) -> None:
        adding(2)(connection)
        # The session is lost, and SQLAlchemy refuses the rollback with an error of its own.
        connection.invalidate()
        raise LookupError(2)

    first, failed = house.start_behind([break_and_fail], adding(1))

    for each in (first, failed):
        with pytest.raises(OperationalError):
            each.result(WITHIN_S)
    assert house.numbers() == []
    house.write(adding(4))
    assert house.numbers() == [4]


def test_a_group_is_committed_where_the_next_thread_has_given_up(house: House) -> None:
    house.groups = GroupCommit(JOIN_S, turn=_GivingUp())

    first, gave_up = house.start_behind([adding(2)], adding(1))

    with pytest.raises(OperationalError, match="locked"):
        gave_up.result(WITHIN_S)
    first.result(WITHIN_S)
    assert house.numbers() == [1]


def test_a_transaction_within_another_is_an_error_and_holds_up_nobody(house: House) -> None:
    def nest(_: Connection) -> None:
        house.write(adding(1))

    with pytest.raises(RuntimeError, match="within another"):
        house.write(nest)
    house.write(adding(2))

    assert house.numbers() == [2]


class _GivingUp:
    """A turn for which the second thread waits until the first leaves it, and then gives up."""

    def __init__(self, on_release: Callable[[], object] = lambda: None) -> None:
        self._on_release: Callable[[], object] | None = on_release
        self._lock = threading.Lock()
        self._is_left = threading.Event()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        if blocking:
            assert self._is_left.wait(WITHIN_S)
        return False

    def release(self) -> None:
        if self._on_release is not None:
            self._on_release()
            self._on_release = None
        self._lock.release()
        self._is_left.set()
