import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from structlog.testing import capture_logs

from app.domain.errors import Unavailable
from app.domain.file_work import SMALL_BYTES, Work
from workers.file_turns import FileTurns, Task, Turn

AT_ONCE = 4
LARGE_AT_ONCE = 2
WAIT_S = 30.0
LARGE = "large"


class Desk:
    """Turns over work that each lasts until it is let go, and a thread for each message."""

    def __init__(self) -> None:
        self.is_ending = False
        self.begun: list[str] = []
        self.broken: set[str] = set()
        self.gone: set[str] = set()
        self.away: Unavailable | None = None
        self.looked_at: list[str] = []
        self.rests: dict[str, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._free: set[str] = set()
        self._turns = FileTurns({"check": Task(self._look, self._run)}, is_ending=lambda: self.is_ending)
        self._threads = ThreadPoolExecutor(32)

    def send(self, batch_id: str) -> Future[None]:
        return self._threads.submit(self._turns.take, Turn("check", batch_id))

    def let_go(self, *batch_ids: str) -> None:
        with self._changed:
            self._free.update(batch_ids)
            self._changed.notify_all()

    def await_begun(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= count, WAIT_S)

    def rest(self, batch_id: str) -> Future[None]:
        """Make way as the work of this batch does between its pieces."""
        return self._threads.submit(self.rests[batch_id])

    def close(self) -> None:
        self.is_ending = True
        self.let_go(*self.begun)
        self._threads.shutdown()

    def _look(self, batch_id: str) -> Work | None:
        self.looked_at.append(batch_id)
        if self.away is not None:
            raise self.away
        return None if batch_id in self.gone else Work("tenant", SMALL_BYTES * 2 if LARGE in batch_id else 10)

    def _run(self, batch_id: str, rest: Callable[[], None]) -> None:
        with self._changed:
            self.begun.append(batch_id)
            self.rests[batch_id] = rest
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: batch_id in self._free, WAIT_S)
        if batch_id in self.broken:
            raise OSError("The disk is full.")


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


def begin(desk: Desk, *batch_ids: str) -> list[Future[None]]:
    threads = []
    for batch_id in batch_ids:
        threads.append(desk.send(batch_id))
        desk.await_begun(len(threads))
    return threads


def begin_all_turns(desk: Desk) -> list[Future[None]]:
    return begin(desk, *(f"early-{number}" for number in range(AT_ONCE)))


def test_work_begins_at_once_while_there_is_a_turn(desk: Desk) -> None:
    begin_all_turns(desk)

    assert desk.begun == [f"early-{number}" for number in range(AT_ONCE)]


def test_work_without_a_turn_keeps_no_thread(desk: Desk) -> None:
    begin_all_turns(desk)

    late = [desk.send(f"late-{number}") for number in range(20)]

    assert not wait(late, WAIT_S).not_done
    assert len(desk.begun) == AT_ONCE


def test_small_work_begins_at_once_beside_any_number_of_large(desk: Desk) -> None:
    begin(desk, *(f"{LARGE}-{number}" for number in range(LARGE_AT_ONCE)))
    waiting = [desk.send(f"{LARGE}-late-{number}") for number in range(8)]
    assert not wait(waiting, WAIT_S).not_done

    desk.send("small")
    desk.await_begun(LARGE_AT_ONCE + 1)

    assert desk.begun[LARGE_AT_ONCE:] == ["small"]


def test_work_that_waits_follows_once_a_turn_is_free(desk: Desk) -> None:
    begin_all_turns(desk)
    for number in range(3):
        desk.send(f"late-{number}").result(WAIT_S)

    desk.let_go("early-2", "late-0")
    desk.await_begun(AT_ONCE + 2)

    assert desk.begun[AT_ONCE:] == ["late-0", "late-1"]


def test_a_batch_that_is_asked_for_again_is_looked_at_and_begun_once(desk: Desk) -> None:
    threads = begin_all_turns(desk)
    for batch_id in ("late", "early-0", "late", "early-0"):
        desk.send(batch_id).result(WAIT_S)

    desk.let_go("late", *desk.begun)

    assert not wait(threads, WAIT_S).not_done
    assert sorted(desk.begun) == ["early-0", "early-1", "early-2", "early-3", "late"]
    assert sorted(desk.looked_at) == sorted(desk.begun)


def test_while_the_storage_is_away_each_look_at_a_batch_is_one_line_of_the_log_without_a_trace(desk: Desk) -> None:
    desk.away = Unavailable("The storage is another one.")

    with capture_logs() as logs:
        desk.send("batch").result(WAIT_S)

    (line,) = logs
    assert (line["event"], line["batch_id"], line["error"]) == ("file_work.put_off", "batch", str(desk.away))
    assert "exc_info" not in line


def test_a_batch_that_needs_nothing_takes_no_turn(desk: Desk) -> None:
    desk.gone = {"gone"}

    desk.send("gone").result(WAIT_S)

    assert desk.begun == []


def test_work_that_breaks_gives_its_turn_to_the_next(desk: Desk) -> None:
    threads = begin_all_turns(desk)
    desk.send("late").result(WAIT_S)
    desk.broken = {"early-0", "late"}

    desk.let_go("late", *desk.begun)

    assert not wait(threads, WAIT_S).not_done
    assert [thread.exception() for thread in threads] == [None] * AT_ONCE
    assert desk.begun[-1] == "late"


def test_a_process_that_ends_begins_no_work_that_waits(desk: Desk) -> None:
    threads = begin_all_turns(desk)
    desk.send("late").result(WAIT_S)

    desk.is_ending = True
    desk.let_go(*desk.begun)

    assert not wait(threads, WAIT_S).not_done
    assert "late" not in desk.begun


def test_large_work_makes_way_while_small_work_runs_and_then_goes_on(desk: Desk) -> None:
    small = begin(desk, "small")
    begin(desk, "small", LARGE)
    resting = desk.rest(LARGE)

    desk.let_go("small")

    small[0].result(WAIT_S)
    resting.result(WAIT_S)


def test_large_work_goes_on_though_small_work_never_ends(desk: Desk) -> None:
    begin(desk, "small", LARGE)

    began_at = time.monotonic()
    # A rest without an end would run into this limit.
    desk.rest(LARGE).result(WAIT_S)

    # It made way at first.
    assert time.monotonic() - began_at >= 0.2


def test_small_work_makes_way_for_nothing(desk: Desk) -> None:
    begin(desk, "small-1", "small-2", LARGE)

    desk.rest("small-1").result(WAIT_S)
