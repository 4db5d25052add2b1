"""Dispatch while the database or the broker is slow or away."""

from collections.abc import Callable, Sequence

import pytest

from app.domain.errors import StorageFull, Unavailable
from app.services.dispatch import DispatchService
from app.services.ports import Delivery, LineTask, Move
from tests.fakes.broker import RecordingQueue
from tests.fakes.outside import FakeClock
from tests.fakes.stores import MemoryBatchStore, MemoryDatabase
from tests.unit.services.pipeline_house import PipelineHouse


class TroubledStore(MemoryBatchStore):
    """Moves no cursor of one of its batches."""

    def __init__(self, database: MemoryDatabase, batch_id: str, trouble: Exception) -> None:
        super().__init__(database)
        self._batch_id = batch_id
        self._trouble = trouble

    def move_free_cursors(self, moves: Sequence[Move]) -> set[str]:
        # Others hold every section for the moment.
        return set()

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        if batch_id == self._batch_id:
            raise self._trouble
        return super().move_cursor(batch_id, from_task, to_task)


class SlowStore(MemoryBatchStore):
    """Lets time pass with each cursor that it moves."""

    def __init__(self, database: MemoryDatabase, wait: Callable[[str], None]) -> None:
        super().__init__(database)
        self._wait = wait

    def move_free_cursors(self, moves: Sequence[Move]) -> set[str]:
        # Others hold every section for the moment.
        return set()

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        self._wait(batch_id)
        return super().move_cursor(batch_id, from_task, to_task)


class LateQueue(RecordingQueue):
    """Takes seconds for what it is sent."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def publish_lines(
        self, batch_id: str, upstream: str, tasks: Sequence[LineTask], delivery: Delivery, fence: str
    ) -> bool:
        self._clock.advance(5)
        return super().publish_lines(batch_id, upstream, tasks, delivery, fence)


class StoppedQueue(RecordingQueue):
    """Has something else happen before it takes in what it is sent first."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._meanwhile: Callable[[], None] | None = meanwhile

    def publish_lines(
        self, batch_id: str, upstream: str, tasks: Sequence[LineTask], delivery: Delivery, fence: str
    ) -> bool:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().publish_lines(batch_id, upstream, tasks, delivery, fence)


class RefusingQueue(RecordingQueue):
    """Takes in nothing of one batch: it has been fenced, or the broker does not answer."""

    def __init__(self, batch_id: str, trouble: Unavailable | None) -> None:
        super().__init__()
        self._batch_id, self._trouble = batch_id, trouble
        self.asked: list[str] = []

    def publish_lines(
        self, batch_id: str, upstream: str, tasks: Sequence[LineTask], delivery: Delivery, fence: str
    ) -> bool:
        self.asked.append(batch_id)
        if batch_id != self._batch_id:
            return super().publish_lines(batch_id, upstream, tasks, delivery, fence)
        if self._trouble is not None:
            raise self._trouble
        return False


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def test_tasks_that_could_not_be_sent_count_as_sent_for_upkeep_to_find(house: PipelineHouse) -> None:
    house.add_running()
    house.queue.fail()

    house.dispatch.refill()

    assert house.batch().tasks_dispatched == 10
    assert house.batch().lines_outstanding == 10


@pytest.mark.parametrize("trouble", [Unavailable("The database is away."), StorageFull("No room is left.")])
def test_what_was_counted_as_sent_before_the_database_went_away_is_sent(trouble: Exception) -> None:
    house = PipelineHouse()
    house.batches = TroubledStore(house.database, "batch_2", trouble)
    for number in (1, 2, 3):
        house.add_running(f"batch_{number}", total=5)

    sent = DispatchService(house.batches, house.queue, house.roster, house.clock).refill()

    assert sent == 5
    assert house.published("batch_1") == list(range(5))
    assert house.published("batch_2") == house.published("batch_3") == []


def test_what_was_counted_as_sent_so_long_ago_that_repair_may_have_sent_it_is_not_sent(house: PipelineHouse) -> None:
    """As when a worker stands still and keeps the lock of the second batch's row."""
    for number in (1, 2):
        house.add_running(f"batch_{number}", total=5)
    store = SlowStore(house.database, lambda batch_id: house.clock.advance(10 * (batch_id == "batch_2")))

    house.dispatch_over(store).refill()

    assert house.published("batch_1") == house.published("batch_2") == []
    # For upkeep to find.
    assert house.batch("batch_1").tasks_dispatched == 5


@pytest.mark.parametrize("seconds", [-3_600, 3_600])
def test_a_clock_that_is_set_amid_a_refill_changes_nothing(house: PipelineHouse, seconds: float) -> None:
    for number in (1, 2):
        house.add_running(f"batch_{number}", total=5)
    store = SlowStore(house.database, lambda _: house.clock.step(seconds))

    house.dispatch_over(store).refill()

    assert house.published("batch_1") == house.published("batch_2") == list(range(5))


def test_a_refill_that_stood_still_before_it_sent_sends_nothing_that_repair_sends(house: PipelineHouse) -> None:
    """Its own look at the time comes too early: it is stopped just behind it."""
    house.add_running(total=4)
    house.queue = StoppedQueue(house.look_twice)
    house.queue.roster = house.roster
    house.configure(*house.upstreams)

    house.dispatch.refill()

    assert house.repeated() == list(range(4))
    assert house.published() == []


def test_where_the_database_is_slow_a_refill_is_of_fewer_batches(house: PipelineHouse) -> None:
    for number in (1, 2, 3, 4):
        house.add_running(f"batch_{number}", total=5)
    slow = house.dispatch_over(SlowStore(house.database, lambda _: house.clock.advance(0.6)))

    first, second = slow.refill(), slow.refill()

    assert (first, second) == (10, 10)
    assert [len(house.published(f"batch_{number}")) for number in (1, 2, 3, 4)] == [5, 5, 5, 5]


def test_a_broker_that_is_late_gets_nothing_that_repair_may_have_sent(house: PipelineHouse) -> None:
    for number in (1, 2):
        house.add_running(f"batch_{number}", total=5)
    house.queue = LateQueue(house.clock)
    house.configure(*house.upstreams)

    house.dispatch.refill()

    # A quarter of ten.
    assert len(house.published("batch_1")) + len(house.published("batch_2")) == 3


def test_upstreams_that_a_slow_refill_has_no_time_for_are_the_first_of_the_next() -> None:
    house = PipelineHouse(upstreams=("gpu", "cpu"))
    for name in ("gpu", "cpu"):
        house.add_for({name: 100}, f"batch_{name}")
    slow = house.dispatch_over(SlowStore(house.database, lambda _: house.clock.advance(4)))

    slow.refill()
    at_first = [house.batch(f"batch_{name}").tasks_dispatched for name in ("gpu", "cpu")]
    slow.refill()

    assert at_first == [100, 0]
    # What was moved so late is left to repair.
    assert house.batch("batch_cpu").tasks_dispatched == 100
    assert house.published("batch_cpu") == []


@pytest.mark.parametrize("trouble", [None, Unavailable("The broker does not answer.")])
def test_once_something_of_a_batch_could_not_be_sent_no_more_of_it_is_tried_in_this_refill(
    house: PipelineHouse, trouble: Unavailable | None
) -> None:
    house.queue = queue = RefusingQueue("batch_1", trouble)
    house.configure(*house.upstreams)
    house.add_worker(concurrency=64)
    house.add_running("batch_1", total=1_000)
    house.add_running("batch_2", total=1_000)

    house.dispatch.refill()

    assert queue.asked.count("batch_1") == 1
    assert queue.asked.count("batch_2") > 1
