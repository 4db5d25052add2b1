import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from workers.validation_turns import ValidationTurns

AT_ONCE = 4
WAIT_S = 30.0


class Desk:
    """Turns over validations that each last until they are let go, and a thread for each message."""

    def __init__(self) -> None:
        self.is_ending = False
        self.begun: list[str] = []
        self.broken: set[str] = set()
        self._changed = threading.Condition()
        self._free: set[str] = set()
        self._turns = ValidationTurns(self._validate, AT_ONCE, is_ending=lambda: self.is_ending)
        self._threads = ThreadPoolExecutor(16)

    def send(self, batch_id: str) -> Future[None]:
        return self._threads.submit(self._turns.take, batch_id)

    def let_go(self, *batch_ids: str) -> None:
        with self._changed:
            self._free.update(batch_ids)
            self._changed.notify_all()

    def await_begun(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= count, WAIT_S)

    def close(self) -> None:
        self.is_ending = True
        self.let_go(*self.begun)
        self._threads.shutdown()

    def _validate(self, batch_id: str) -> None:
        with self._changed:
            self.begun.append(batch_id)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: batch_id in self._free, WAIT_S)
        if batch_id in self.broken:
            raise OSError("The disk is full.")


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


def begin_all_turns(desk: Desk) -> list[Future[None]]:
    threads = []
    for number in range(AT_ONCE):
        threads.append(desk.send(f"early-{number}"))
        desk.await_begun(number + 1)
    return threads


def test_a_validation_begins_at_once_while_there_is_a_turn(desk: Desk) -> None:
    begin_all_turns(desk)

    assert desk.begun == [f"early-{number}" for number in range(AT_ONCE)]


def test_one_without_a_turn_keeps_no_thread(desk: Desk) -> None:
    begin_all_turns(desk)

    late = [desk.send(f"late-{number}") for number in range(20)]

    assert not wait(late, WAIT_S).not_done
    assert len(desk.begun) == AT_ONCE


def test_those_that_wait_follow_in_their_order_once_a_turn_is_free(desk: Desk) -> None:
    begin_all_turns(desk)
    for number in range(3):
        desk.send(f"late-{number}").result(WAIT_S)

    desk.let_go("early-2", "late-0")
    desk.await_begun(AT_ONCE + 2)

    assert desk.begun[AT_ONCE:] == ["late-0", "late-1"]


def test_a_batch_that_is_asked_for_again_is_validated_once(desk: Desk) -> None:
    threads = begin_all_turns(desk)
    for batch_id in ("late", "early-0", "late", "early-0"):
        desk.send(batch_id).result(WAIT_S)

    desk.let_go("late", *desk.begun)

    assert not wait(threads, WAIT_S).not_done
    assert sorted(desk.begun) == ["early-0", "early-1", "early-2", "early-3", "late"]


def test_a_validation_that_breaks_gives_its_turn_to_the_next(desk: Desk) -> None:
    threads = begin_all_turns(desk)
    desk.send("late").result(WAIT_S)
    desk.broken = {"early-0", "late"}

    desk.let_go("late", *desk.begun)

    assert not wait(threads, WAIT_S).not_done
    assert [thread.exception() for thread in threads] == [None] * AT_ONCE
    assert desk.begun[-1] == "late"


def test_a_process_that_ends_begins_none_that_wait(desk: Desk) -> None:
    threads = begin_all_turns(desk)
    desk.send("late").result(WAIT_S)

    desk.is_ending = True
    desk.let_go(*desk.begun)

    assert not wait(threads, WAIT_S).not_done
    assert "late" not in desk.begun
