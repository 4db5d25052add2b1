import math

import pytest

from app.services.ticks import EXPIRE, FILES, REFILL, REPAIR, ControlClock, TickCounter, TickWatch, explain_silence
from tests.fakes.outside import FakeClock
from tests.fakes.ticks import MemoryTickStore

ALL = {EXPIRE, REFILL, REPAIR, FILES}


class House:
    """Processes that tick and one that watches them, each with a clock of its own."""

    def __init__(self) -> None:
        self.store = MemoryTickStore()
        self.control, self.watcher = FakeClock(), FakeClock()
        self.counter = TickCounter(self.store, self.control)
        self.watch = TickWatch(self.store, self.watcher.monotonic)

    def pass_by(self, seconds: int, *kinds: str) -> set[str]:
        """Have these kinds tick each second, and look each other second; return what the last look saw."""
        silent: set[str] = set()
        for second in range(seconds):
            self.control.advance(1)
            self.watcher.advance(1)
            for kind in kinds:
                self.counter.count(kind)
            if second % 2:
                silent = self.watch.silent()
        return silent


@pytest.fixture
def house() -> House:
    return House()


def test_ticks_that_are_done_are_not_silent(house: House) -> None:
    assert house.pass_by(600, *ALL) == set()


@pytest.mark.parametrize("stopped", [{EXPIRE, REFILL, REPAIR}, {FILES}, {REPAIR}, ALL])
def test_what_stopped_shows_after_thirty_seconds_and_not_sooner(house: House, stopped: set[str]) -> None:
    house.pass_by(20, *ALL)

    assert house.pass_by(28, *(ALL - stopped)) == set()
    assert house.pass_by(8, *(ALL - stopped)) == stopped


def test_what_goes_on_is_no_longer_silent(house: House) -> None:
    house.pass_by(20, *ALL)
    assert house.pass_by(60) == ALL

    assert house.pass_by(4, *ALL) == set()


@pytest.mark.parametrize("seconds", [3_600.0, -3_600.0, 60.0, -60.0])
def test_a_clock_that_steps_raises_no_alarm(house: House, seconds: float) -> None:
    house.pass_by(20, *ALL)
    house.control.step(seconds)
    house.watcher.step(-seconds)

    assert house.pass_by(20, *ALL) == set()


def test_a_start_that_takes_fifty_seconds_raises_no_alarm(house: House) -> None:
    assert house.pass_by(50) == set()
    assert house.pass_by(40, *ALL) == set()


def test_ticks_that_never_began_show_after_a_minute(house: House) -> None:
    assert house.pass_by(70) == ALL


def test_ticks_are_not_at_fault_while_the_database_is_away(house: House) -> None:
    house.pass_by(20, *ALL)
    house.pass_by(26)
    house.store.is_away = True
    with pytest.raises(Exception, match="away"):
        house.watch.silent()
    house.watcher.advance(120)

    house.store.is_away = False

    assert house.pass_by(20) == set()
    assert house.pass_by(20) == ALL


def test_a_watcher_that_stood_still_has_seen_no_silence(house: House) -> None:
    house.pass_by(20, *ALL)
    house.watcher.advance(3_600)

    assert house.watch.silent() == set()


def test_counts_are_written_once_a_second_at_most(house: House) -> None:
    for _ in range(1_000):
        house.counter.count(REFILL)
        house.control.advance(0.01)

    assert house.store.notes <= 14


def test_what_is_wrong_names_the_processes_to_look_at() -> None:
    assert "beat or control run" in explain_silence({EXPIRE, REPAIR}, 30)
    assert "files run" in explain_silence({FILES}, 30)
    assert "beat or control and files run" in explain_silence(ALL, 30)


def test_no_window_has_ended_before_controls_clock_was_heard() -> None:
    assert ControlClock(FakeClock().monotonic).now() == -math.inf


def test_controls_clock_goes_on_by_the_workers_monotonic_one() -> None:
    worker = FakeClock()
    clock = ControlClock(worker.monotonic)

    clock.hear(5_000.0)
    worker.advance(10)
    worker.step(3_600)
    clock.hear(5_000.0)

    assert clock.now() == 5_010.0


@pytest.mark.parametrize("heard", [8_600.0, 1_400.0])
def test_a_step_of_controls_clock_is_followed(heard: float) -> None:
    worker = FakeClock()
    clock = ControlClock(worker.monotonic)
    clock.hear(5_000.0)
    worker.advance(1)

    clock.hear(heard)

    assert clock.now() == heard
