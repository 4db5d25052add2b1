import threading
import time
from types import SimpleNamespace

import pytest

from app.domain.concurrency import ConcurrencyLimit
from app.domain.lifecycle import Event
from app.domain.rates import RateLimit
from app.domain.retry import RetryPolicy
from app.services.execution import ExecutionService
from app.services.ports import REPORT_LIFETIME_S, LaneState, Planned, WorkerState
from tests.fakes.broker import MemoryRoster
from tests.fakes.outside import FakeClock
from tests.fakes.stores import MemoryBatchStore
from tests.unit.services.pipeline_house import NOW, new_batch
from tests.unit.workers.engine_house import HeldUpstream
from tests.unit.workers.waiting import WITHIN_S, until
from workers.batches_in_hand import BatchesInHand, BatchInHand
from workers.heartbeat import Heartbeat
from workers.lane import Lane
from workers.lease import Lease
from workers.taken import Taken

GRACE_S = 30.0


class RecordingEngine:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.aborted: list[str] = []
        self.lapses = 0
        self.shares: list[tuple[int, int]] = []

    def share_out(self, place: int, workers: int) -> None:
        self.shares.append((place, workers))

    def let_go(self) -> None:
        self.lapses += 1

    def stop_batch(self, batch: BatchInHand) -> None:
        batch.is_stopped = True
        self.stopped.append(batch.id)

    def abort_batch(self, batch: BatchInHand) -> None:
        self.aborted.append(batch.id)


class House:
    """A heartbeat whose beats are the test's: its thread is never started."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.roster = MemoryRoster(self.clock)
        self.store = MemoryBatchStore()
        self.batches = BatchesInHand(self.store)
        self.engine = RecordingEngine()
        self.taken = Taken()
        self.lane = Lane(
            "default",
            HeldUpstream(),
            ConcurrencyLimit(4),
            RateLimit(None, None),
            concurrency=4,
            max_in_flight=None,
            execution=lambda upstream: ExecutionService(upstream, self.clock, RetryPolicy(), call_timeout_s=60),
        )
        self.lease = Lease(self.clock.now)
        self.heartbeat = Heartbeat(
            "worker-1",
            self.roster,
            SimpleNamespace(batches=self.store, clock=self.clock),
            self.taken,
            [self.lane],
            self.engine,
            self.batches,
            self.lease,
            cancel_grace_s=GRACE_S,
        )

    def take_up(self, batch_id: str = "batch_1") -> None:
        self.store.add(new_batch(batch_id))
        self.store.accept(batch_id, Planned(f"plans/{batch_id}", 1, 10, "small"), NOW)
        assert self.batches.get(batch_id) is not None

    def beat(self) -> None:
        self.heartbeat._attempt(self.heartbeat.report)
        self.heartbeat._attempt(self.heartbeat.follow)


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


def report_of(house: House, name: str) -> None:
    """Have another worker say that it lives."""
    house.roster.report(WorkerState(name, (), {"default": LaneState(8)}))


def test_what_workers_share_is_parted_by_their_places_among_the_names(house: House) -> None:
    for name in ("worker-2", "worker-0", "worker-10"):
        report_of(house, name)

    house.beat()

    # Of worker-0, worker-1, worker-10 and worker-2.
    assert house.engine.shares == [(1, 4)]


def test_a_report_before_its_time_parts_nothing(house: House) -> None:
    house.beat()
    house.clock.advance(0.3)
    report_of(house, "worker-0")
    house.beat()
    hurried = list(house.engine.shares)

    house.clock.advance(0.7)
    house.beat()

    assert hurried == [(0, 1)]
    assert house.engine.shares == [(0, 1), (1, 2)]


def test_a_worker_that_is_gone_leaves_its_part_to_the_others(house: House) -> None:
    report_of(house, "worker-0")
    house.beat()

    house.clock.advance(REPORT_LIFETIME_S)
    house.beat()

    assert house.engine.shares == [(1, 2), (0, 1)]


def test_a_worker_that_finds_itself_in_no_list_keeps_the_part_it_has(house: House) -> None:
    house.roster.workers = lambda: [WorkerState("worker-0", (), {})]

    house.heartbeat.report()

    assert house.engine.shares == []


def test_the_window_of_each_upstream_is_that_of_all_workers_that_call_it(house: House) -> None:
    report_of(house, "worker-2")
    house.roster.report(WorkerState("worker-3", (), {"other": LaneState(100)}))

    house.beat()

    assert house.heartbeat.windows == {"default": 30}
