"""A pool in which a task of lines has a thread only at both of its ends."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.adapters.queue import RUN_LINES
from tests.unit.workers.waiting import WITHIN_S, until
from workers.line_pool import LinePool


@pytest.fixture
def pool() -> Iterator[LinePool]:
    pool = LinePool(limit=1_000)
    yield pool
    pool.drain_s = 0.0
    pool.on_stop()


class Begun:
    """Tasks that were begun, each with what ends it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.ends: list[Callable[[], None]] = []

    def __call__(self, request: dict[str, Any], on_settled: Callable[[], None]) -> None:
        self.requests.append(request)
        self.ends.append(on_settled)


def apply(pool: LinePool, name: str, request: dict[str, Any], done: list[str]) -> None:
    pool.on_apply(
        lambda *args: args[1],
        (name, f"id-{request['number']}", request),
        callback=done.append,
        accept_callback=lambda _pid, _at: None,
    )


def test_a_task_of_lines_ends_when_its_lines_are_settled(pool: LinePool) -> None:
    begun, done = Begun(), list[str]()
    pool.begin = begun
    apply(pool, RUN_LINES, {"number": 1}, done)
    until(lambda: len(begun.ends) == 1)
    done_before = list(done)

    begun.ends[0]()

    until(lambda: done == ["id-1"])
    assert done_before == []
    assert begun.requests == [{"number": 1}]


def test_hundreds_of_tasks_of_lines_wait_on_a_few_threads(pool: LinePool) -> None:
    begun, done = Begun(), list[str]()
    pool.begin = begun

    for number in range(500):
        apply(pool, RUN_LINES, {"number": number}, done)

    until(lambda: len(begun.ends) == 500)
    assert len(pool.executor._threads) <= 16
    for end in begun.ends:
        end()
    until(lambda: len(done) == 500)


def test_other_tasks_run_as_in_any_pool(pool: LinePool) -> None:
    done = list[str]()

    apply(pool, "control.refill", {"number": 7}, done)

    until(lambda: done == ["id-7"])


def test_the_end_waits_for_tasks_that_were_begun(pool: LinePool) -> None:
    begun, done = Begun(), list[str]()
    pool.begin = begun
    pool.drain_s = WITHIN_S
    apply(pool, RUN_LINES, {"number": 1}, done)
    until(lambda: len(begun.ends) == 1)
    stopping = threading.Thread(target=pool.on_stop)

    stopping.start()
    begun.ends[0]()
    stopping.join(WITHIN_S)

    assert not stopping.is_alive()
    assert done == ["id-1"]


def test_the_end_leaves_tasks_behind_that_do_not_settle(pool: LinePool) -> None:
    begun, done = Begun(), list[str]()
    pool.begin = begun
    apply(pool, RUN_LINES, {"number": 1}, done)
    until(lambda: len(begun.ends) == 1)

    pool.on_stop()
    begun.ends[0]()

    assert done == []
