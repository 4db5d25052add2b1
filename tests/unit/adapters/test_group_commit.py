"""Threads of a process share transactions of SQLite."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from app.adapters.db.engine import open_engine, reading, writing
from app.adapters.db.group_commit import GroupCommit
from app.domain.errors import Unavailable
from tests.unit.adapters.commit_house import WITHIN_S, House, adding

NOT_SYNCED, SYNCED = 1, 2


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


def _count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.scalar(text("SELECT count(*) FROM numbers")) or 0)
