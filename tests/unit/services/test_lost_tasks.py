"""When a task counts as lost."""

import pytest

from app.domain.ids import task_id
from app.services.lost_tasks import LostTasks
from app.services.ports import WorkerState
from app.services.repair import RepairService
from tests.fakes.broker import MemoryRoster, RecordingQueue
from tests.unit.services.pipeline_house import PipelineHouse


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def arrange_sent(house: PipelineHouse, total: int = 4) -> None:
    """Have every task of a batch sent and gone from the queue."""
    house.add_running(total=total)
    house.dispatch.refill()
    house.queue.waiting.clear()


def test_a_standstill_of_everything_makes_no_task_lost(house: PipelineHouse) -> None:
    """What was on its way from the queue to a worker's report is still missing at the first look after it."""
    arrange_sent(house, 1)
    house.upkeep.repair()

    house.clock.advance(3_600)
    house.upkeep.repair()
    house.queue.waiting = {task_id("batch_1", 0)}
    house.clock.advance(3)
    house.upkeep.repair()

    assert house.repeated() == []


def test_a_batch_is_fenced_before_a_task_of_it_is_lost(house: PipelineHouse) -> None:
    """Whoever was to send the task at first can do so no more, and what it had sent by then would be seen."""
    arrange_sent(house, 1)
    house.upkeep.repair()
    before = house.roster.fences(["batch_1"])

    house.clock.advance(4)
    house.upkeep.repair()

    assert house.repeated() == []
    assert house.roster.fences(["batch_1"]) != before


def test_tasks_on_their_way_to_a_report_have_no_batch_fenced(house: PipelineHouse) -> None:
    arrange_sent(house, 1)
    house.upkeep.repair()

    house.clock.advance(1)
    house.upkeep.repair()

    assert house.roster.fenced_batches() == set()


@pytest.mark.parametrize("seconds", [-3_600, -12, 12, 3_600])
def test_a_clock_that_is_set_changes_nothing_of_when_a_task_is_lost(house: PipelineHouse, seconds: float) -> None:
    arrange_sent(house, 1)
    house.upkeep.repair()

    house.clock.step(seconds)
    house.upkeep.repair()
    at_first = house.repeated()
    house.look_twice()

    assert at_first == []
    assert house.repeated() == [0]


def test_a_task_is_lost_once_it_has_been_missing_for_seconds(house: PipelineHouse) -> None:
    arrange_sent(house)
    house.record(1)
    for _ in range(5):
        house.upkeep.repair()
    house.clock.advance(2)
    house.upkeep.repair()
    house.clock.advance(2)
    house.upkeep.repair()
    at_first = house.repeated()

    house.clock.advance(1)
    house.upkeep.repair()

    assert at_first == []
    assert house.repeated() == [0, 2, 3]


def test_a_task_that_was_sent_again_has_as_much_time_as_at_first(house: PipelineHouse) -> None:
    arrange_sent(house)
    house.look_twice()
    house.queue.waiting.clear()
    before = list(house.repeated())

    house.clock.advance(4)
    house.upkeep.repair()

    assert before
    assert house.repeated() == before


def test_a_task_that_turned_up_between_two_looks_starts_anew(house: PipelineHouse) -> None:
    arrange_sent(house, 1)
    house.upkeep.repair()
    house.queue.waiting = {task_id("batch_1", 0)}
    house.upkeep.repair()
    house.queue.waiting.clear()

    house.upkeep.repair()

    assert house.repeated() == []


def test_a_fenced_task_that_turned_up_starts_anew_beside_a_task_that_stays_missing(house: PipelineHouse) -> None:
    arrange_sent(house, 2)
    house.upkeep.repair()
    house.clock.advance(3)
    house.upkeep.repair()
    house.queue.waiting = {task_id("batch_1", 0)}
    house.upkeep.repair()
    house.queue.waiting.clear()
    house.upkeep.repair()
    fence = house.roster.fences(["batch_1"])

    house.clock.advance(4)
    house.upkeep.repair()

    assert house.repeated() == [1]
    assert house.roster.fences(["batch_1"]) != fence


def test_a_task_that_a_worker_takes_amid_each_look_is_not_lost(house: PipelineHouse) -> None:
    """It is in the queue when the look begins, and with the worker once the first of the two was read."""
    arrange_sent(house, 1)
    task = task_id("batch_1", 0)

    def take() -> None:
        house.queue.waiting.discard(task)
        house.add_worker(held_tasks=(task,))

    class QueueThatIsRead(RecordingQueue):
        def queued_tasks(self) -> set[str]:
            seen = super().queued_tasks()
            take()
            return seen

    class RosterThatIsRead(MemoryRoster):
        def workers(self) -> list[WorkerState]:
            seen = super().workers()
            take()
            return seen

    house.queue = QueueThatIsRead()
    house.queue.roster = house.roster = RosterThatIsRead(house.clock)
    repair = RepairService(house.batches, house.results, house.queue, house.roster, house.clock, house.upstreams)
    for _ in range(4):
        house.add_worker(held_tasks=())
        house.queue.waiting.add(task)
        repair.repair()
        house.clock.advance(3)

    assert house.repeated() == []
    assert house.roster.fenced_batches() == set()


def test_past_the_most_batches_the_time_of_the_batch_seen_longest_ago_starts_anew(house: PipelineHouse) -> None:
    tasks = LostTasks(house.roster, house.clock)
    tasks.find({"batch_kept": [0], "batch_forgotten": [0]})

    house.clock.advance(1)
    tasks.find({"batch_kept": [0]} | {f"batch_{number}": [0] for number in range(19_999)})
    house.clock.advance(1)
    tasks.find({"batch_kept": [0], "batch_forgotten": [0]})

    assert house.roster.fenced_batches() == {"batch_kept"}


def test_a_task_that_one_process_found_lost_is_not_lost_at_once_for_another(house: PipelineHouse) -> None:
    processes = [LostTasks(house.roster, house.clock) for _ in range(2)]
    for _ in range(2):
        for process in processes:
            process.find({"batch_1": [0]})
        house.clock.advance(3)

    assert [process.find({"batch_1": [0]}) for process in processes] == [{"batch_1": [0]}, {}]
