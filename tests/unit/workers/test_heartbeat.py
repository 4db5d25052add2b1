import threading
import time

import pytest
from structlog.testing import capture_logs

from app.domain.lifecycle import Event
from app.services.ports import REPORT_LIFETIME_S, WorkerState
from tests.unit.services.pipeline_house import NOW
from tests.unit.workers.heartbeat_house import GRACE_S, House
from tests.unit.workers.waiting import WITHIN_S, until


@pytest.fixture
def house() -> House:
    return House()


def test_a_beat_says_what_the_worker_holds(house: House) -> None:
    house.taken.add("task-1")

    house.beat()

    (state,) = house.roster.workers()
    assert isinstance(state, WorkerState)
    assert (state.name, state.held_tasks) == ("worker-1", ("task-1",))
    assert state.lanes["default"].slots == 4


def test_running_batches_go_on(house: House) -> None:
    house.take_up()

    house.beat()

    assert house.engine.stopped == house.engine.aborted == []


@pytest.mark.parametrize("event", [Event.CANCEL_REQUESTED, Event.WINDOW_ELAPSED])
def test_a_batch_that_ends_is_stopped_at_the_next_beat(house: House, event: Event) -> None:
    house.take_up("batch_1")
    house.take_up("batch_2")
    house.store.advance("batch_1", event, NOW)

    house.beat()
    house.beat()

    assert house.engine.stopped == ["batch_1"]
    assert house.engine.aborted == []


def test_its_calls_are_broken_off_once_the_grace_is_over(house: House) -> None:
    house.take_up()
    house.store.advance("batch_1", Event.CANCEL_REQUESTED, NOW)
    house.beat()
    house.clock.advance(GRACE_S - 1)
    house.beat()
    in_time = list(house.engine.aborted)

    house.clock.advance(1)
    house.beat()

    assert in_time == []
    assert house.engine.aborted == ["batch_1"]
    assert house.batches.all() == []


def test_a_batch_whose_row_is_gone_is_stopped(house: House) -> None:
    house.take_up()
    house.store._db.batches.clear()

    house.beat()

    assert house.engine.stopped == ["batch_1"]


def test_a_broker_that_is_away_does_not_keep_it_from_following_its_batches(house: House) -> None:
    def fail(state: WorkerState) -> None:
        raise ConnectionError("The broker is away.")

    house.take_up()
    house.store.advance("batch_1", Event.CANCEL_REQUESTED, NOW)
    house.roster.report = fail

    house.beat()

    assert house.engine.stopped == ["batch_1"]


def test_stopping_leaves_the_roster(house: House) -> None:
    house.beat()

    house.heartbeat.stop()

    assert house.roster.workers() == []


def test_each_report_extends_the_lease(house: House) -> None:
    house.beat()
    house.clock.advance(REPORT_LIFETIME_S - 1)
    house.beat()
    house.clock.advance(REPORT_LIFETIME_S - 1)

    assert house.lease.is_held()
    # The first report of all ends the time in which nothing was held.
    assert house.engine.lapses == 1


def test_a_report_after_a_standstill_lets_go_of_what_is_held(house: House) -> None:
    house.beat()
    house.clock.advance(60)

    house.beat()

    assert house.engine.lapses == 2


def test_reports_that_do_not_arrive_let_the_lease_lapse(house: House) -> None:
    def fail(state: WorkerState) -> None:
        raise ConnectionError("The broker is away.")

    house.beat()
    house.roster.report = fail
    for _ in range(int(REPORT_LIFETIME_S)):
        house.clock.advance(1)
        house.beat()

    assert not house.lease.is_held()


def test_beats_that_are_missed_are_told_twice_a_minute(house: House) -> None:
    def fail(state: WorkerState) -> None:
        raise ConnectionError("The broker is away.")

    house.roster.report = fail
    with capture_logs() as logs:
        for _ in range(60):
            house.beat()
            house.clock.advance(1)

    missed = [entry for entry in logs if entry["event"] == "worker.beat_missed"]
    assert [entry["beat"] for entry in missed] == ["report"] * 2


def test_a_database_that_does_not_answer_keeps_no_report_from_going_out(house: House) -> None:
    is_over = threading.Event()
    reports: list[WorkerState] = []
    house.take_up()
    house.store.statuses = lambda _ids: is_over.wait(WITHIN_S) and {}
    house.roster.report = reports.append

    house.heartbeat.start()

    try:
        until(lambda: len(reports) >= 3)
    finally:
        is_over.set()
        house.heartbeat.stop()


def test_lines_that_have_become_far_faster_are_reported_before_the_second_is_over(house: House) -> None:
    reports: list[WorkerState] = []
    house.roster.report = reports.append
    house.heartbeat.start()

    def report_progress() -> bool:
        house.lane.answered += 100
        house.heartbeat.progressed()
        return len(reports) >= 2

    began_at = time.monotonic()
    until(report_progress)
    house.heartbeat.stop()

    assert reports[1].lanes["default"].lines_per_s > 0
    assert time.monotonic() - began_at < WITHIN_S


@pytest.mark.parametrize("off_s", [3_600.0, -3_600.0])
def test_windows_end_by_controls_clock_whatever_the_workers_own_says(house: House, off_s: float) -> None:
    house.take_up()
    house.ticks.note({"expire": 1}, NOW)

    house.clock.step(off_s)
    house.beat()
    house.clock.advance(5)

    assert house.control_clock.now() == NOW + 5
