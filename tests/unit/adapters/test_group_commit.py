"""Threads of a process share transactions of SQLite."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from app.adapters.db.engine import open_engine, reading, writing
from app.adapters.db.group_commit import GroupCommit
from app.adapters.db.postgres import USUAL
from app.domain.errors import Unavailable

WITHIN_S = 60.0
# Long enough for every thread to join, however busy the machine.
JOIN_S = 600.0
NOT_SYNCED, SYNCED = 1, 2

Body = Callable[[Connection], object]


class House:
    """A database with a table of numbers, and a note of each statement."""

    def __init__(self, path: Path) -> None:
        self.statements: list[str] = []
        self.engine = open_engine(f"sqlite:///{path}")
        event.listen(self.engine, "connect", lambda driver, _: driver.set_trace_callback(self.statements.append))
        with writing(self.engine) as connection:
            connection.execute(text("CREATE TABLE numbers (number INTEGER)"))
            connection.execute(text("CREATE TABLE owners (id INTEGER PRIMARY KEY)"))
            connection.execute(
                text("CREATE TABLE owned (owner INTEGER REFERENCES owners DEFERRABLE INITIALLY DEFERRED)")
            )
        self.statements.clear()
        self.groups = GroupCommit(JOIN_S)
        self.threads = ThreadPoolExecutor(64)

    def write(self, body: Body, *, is_synced: bool = True) -> None:
        with self.groups.join(self.engine, USUAL, is_synced=is_synced) as connection:
            body(connection)

    def start(self, body: Body, *, is_synced: bool = True) -> "Future[None]":
        return self.threads.submit(self.write, body, is_synced=is_synced)

    def start_behind(self, bodies: list[Body], first: Body, *, is_first_synced: bool = True) -> "list[Future[None]]":
        """Start the first body, and the other bodies while the first is at work."""
        may_end = threading.Event()

        def first_and_wait(connection: Connection) -> None:
            assert may_end.wait(WITHIN_S)
            first(connection)

        started = [self.start(first_and_wait, is_synced=is_first_synced)]
        await_true(lambda: self.statements.count("BEGIN IMMEDIATE") > 0)
        for body in bodies:
            waiting = self.groups.waiting
            started.append(self.start(body))
            await_true(lambda waiting=waiting: self.groups.waiting > waiting)  # type: ignore[misc]
        may_end.set()
        return started

    def numbers(self) -> list[int]:
        with reading(self.engine) as connection:
            return list(connection.scalars(text("SELECT number FROM numbers ORDER BY number")))

    def commits(self) -> int:
        return self.statements.count("COMMIT")

    def close(self) -> None:
        self.threads.shutdown()
        self.engine.dispose()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "numbers.db")
    yield house
    house.close()


def test_threads_that_write_at_once_share_a_commit(house: House) -> None:
    started = house.start_behind([adding(number) for number in range(1, 8)], adding(0))

    for each in started:
        each.result(WITHIN_S)
    assert house.numbers() == list(range(8))
    assert house.commits() == 1


def test_a_lone_thread_makes_no_savepoint(house: House) -> None:
    house.write(adding(1))

    assert [each.partition(" ")[0] for each in house.statements] == ["PRAGMA", "BEGIN", "PRAGMA", "INSERT", "COMMIT"]


def test_no_thread_goes_on_and_no_other_connection_sees_its_rows_before_the_commit(house: House) -> None:
    is_second_at_work, may_end = threading.Event(), threading.Event()

    def wait(_: Connection) -> None:
        is_second_at_work.set()
        assert may_end.wait(WITHIN_S)

    first, second = house.start_behind([wait], adding(1))
    assert is_second_at_work.wait(WITHIN_S)
    seen, has_gone_on = house.numbers(), first.done()
    may_end.set()
    first.result(WITHIN_S)

    assert (seen, has_gone_on) == ([], False)
    assert house.numbers() == [1]
    second.result(WITHIN_S)


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
    await_true(lambda: house.statements.count("BEGIN IMMEDIATE") > 0)
    looked_up = house.threads.submit(look_up)
    await_true(lambda: house.groups.waiting == 1)
    last = house.start(wait)
    await_true(lambda: house.groups.waiting == 2)
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


def test_a_group_has_at_most_32_threads(house: House) -> None:
    started = house.start_behind([adding(number) for number in range(1, 33)], adding(0))

    for each in started:
        each.result(WITHIN_S)
    assert house.numbers() == list(range(33))
    assert house.commits() == 2


def test_a_group_that_is_open_for_long_takes_no_further_thread(house: House) -> None:
    house.groups = GroupCommit(join_within_s=0)

    for each in house.start_behind([adding(2)], adding(1)):
        each.result(WITHIN_S)

    assert house.numbers() == [1, 2]
    assert house.commits() == 2


def test_a_thread_that_waits_too_long_for_its_turn_says_that_the_database_is_locked(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}")
    may_end, is_at_work = threading.Event(), threading.Event()

    def hold() -> None:
        with writing(engine):
            is_at_work.set()
            assert may_end.wait(WITHIN_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_at_work.wait(WITHIN_S)
    with pytest.raises(Unavailable, match="locked"), writing(engine):
        pass
    may_end.set()
    holder.join(WITHIN_S)
    engine.dispose()


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


def test_a_thread_that_writes_may_read_what_is_committed(house: House) -> None:
    house.write(adding(1))
    seen: list[list[int]] = []

    def add_and_read(connection: Connection) -> None:
        adding(2)(connection)
        seen.append(house.numbers())

    house.write(add_and_read)

    assert seen == [[1]]
    assert house.numbers() == [1, 2]


def test_a_commit_that_must_be_synced_is_not_left_to_a_group_that_does_not_sync(house: House) -> None:
    levels: list[int] = []

    def look(connection: Connection) -> None:
        levels.append(int(connection.scalar(text("PRAGMA synchronous")) or 0))

    for each in house.start_behind([look], look, is_first_synced=False):
        each.result(WITHIN_S)

    assert levels == [NOT_SYNCED, SYNCED]
    assert house.commits() == 2


def test_threads_that_write_for_a_while_lose_nothing(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}")
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))

    def add(number: int) -> bool:
        try:
            with writing(engine, is_synced=number % 2 == 0) as connection:
                adding(number)(connection)
                if number % 7 == 0:
                    raise LookupError(number)
        except LookupError:
            return False
        with reading(engine) as connection:
            return connection.scalar(text(f"SELECT count(*) FROM numbers WHERE number = {number}")) == 1

    with ThreadPoolExecutor(16) as threads:
        are_there = list(threads.map(add, range(400)))

    assert are_there == [number % 7 != 0 for number in range(400)]
    assert _count(engine) == sum(are_there)
    engine.dispose()


def adding(number: int) -> Body:
    """Return a body that adds a number."""
    return lambda connection: connection.execute(text(f"INSERT INTO numbers VALUES ({number})"))


def adding_and_failing(number: int) -> Body:
    """Return a body that adds a number and fails."""

    def add_and_fail(connection: Connection) -> None:
        adding(number)(connection)
        raise LookupError(number)

    return add_and_fail


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def _count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.scalar(text("SELECT count(*) FROM numbers")) or 0)


class _GivingUp:
    """A turn for which the second thread waits until the first leaves it, and then gives up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_left = threading.Event()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        if blocking:
            assert self._is_left.wait(WITHIN_S)
        return False

    def release(self) -> None:
        self._lock.release()
        self._is_left.set()
