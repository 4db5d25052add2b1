"""Lines for several upstreams, each with a window of its own."""

from collections.abc import Sequence

import pytest

from app.domain.errors import Unavailable
from app.domain.fairness import Weights
from app.domain.lifecycle import Event
from app.services.ports import LineTask, Move
from app.services.sharing import SharingService, window_lines
from tests.fakes.database import MemoryDatabase
from tests.fakes.stores import MemoryBatchStore
from tests.unit.services.pipeline_house import PipelineHouse

GPU_WINDOW, CPU_WINDOW = 20, 10


class TroubledStore(MemoryBatchStore):
    """Moves no cursor of some tasks while it is in trouble."""

    def __init__(self, database: MemoryDatabase, troubled: range) -> None:
        super().__init__(database)
        self.troubled = troubled
        # The tasks from which on cursors were to be moved.
        self.asked: list[int] = []

    def move_free_cursors(self, moves: Sequence[Move]) -> set[str]:
        # Others hold every section for the moment.
        return set()

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        self.asked.append(from_task)
        if from_task in self.troubled:
            raise Unavailable("The database is away.")
        return super().move_cursor(batch_id, from_task, to_task)


@pytest.fixture
def house() -> PipelineHouse:
    house = PipelineHouse(upstreams=("gpu", "cpu"))
    house.add_worker_of(gpu=8, cpu=4)
    return house


def sent_to(house: PipelineHouse, upstream: str, batch_id: str = "batch_1") -> list[int]:
    return sorted(
        number for (owner, number), to in house.queue.upstreams.items() if (owner, to) == (batch_id, upstream)
    )


def test_each_upstream_has_a_window_by_its_own_calls(house: PipelineHouse) -> None:
    house.add_for({"gpu": 100, "cpu": 100})

    sent = house.dispatch.refill()

    assert sent == GPU_WINDOW + CPU_WINDOW
    assert sent_to(house, "gpu") == list(range(GPU_WINDOW))
    assert sent_to(house, "cpu") == list(range(100, 100 + CPU_WINDOW))


def test_a_full_window_of_one_keeps_none_of_the_others_lines(house: PipelineHouse) -> None:
    house.add_for({"gpu": 100, "cpu": 100})
    house.dispatch.refill()
    house.record(*range(100, 110))

    sent = house.dispatch.refill()

    assert sent == CPU_WINDOW
    assert sent_to(house, "gpu") == list(range(GPU_WINDOW))
    assert sent_to(house, "cpu") == list(range(100, 120))


def test_a_batch_for_one_upstream_is_not_kept_by_anothers_that_hang(house: PipelineHouse) -> None:
    house.add_for({"gpu": 1_000}, "batch_hangs", tenant_id="tenant")
    house.dispatch.refill()
    house.clock.advance(3)
    house.add_worker_of(gpu=8, cpu=4)
    house.add_for({"cpu": 1_000}, "batch_other", tenant_id="tenant")

    assert house.dispatch.refill() == CPU_WINDOW
    assert sent_to(house, "cpu", "batch_other") == list(range(CPU_WINDOW))


def test_the_chord_is_opened_with_the_tasks_of_all_upstreams(house: PipelineHouse) -> None:
    house.add_for({"gpu": 101, "cpu": 51}, lines_per_task=50)

    house.dispatch.refill()

    assert set(house.queue.opened_chords) == {("batch_1", 5)}


def test_a_chord_is_not_opened_again_when_a_section_begins_later(house: PipelineHouse) -> None:
    store = TroubledStore(house.database, troubled=range(5, 10))
    house.add_for({"gpu": 5, "cpu": 5})
    house.dispatch_over(store).refill()
    opened_before = house.queue.opened_chords.count(("batch_1", 10))
    begun_before = sent_to(house, "cpu")

    store.troubled = range(0)
    house.dispatch_over(store).refill()

    assert (opened_before, begun_before) == (1, [])
    assert sent_to(house, "cpu") != []
    assert house.queue.opened_chords.count(("batch_1", 10)) == 1


def test_tasks_carry_the_lines_of_their_own_section(house: PipelineHouse) -> None:
    house.add_for({"gpu": 5, "cpu": 3}, lines_per_task=2)

    house.dispatch.refill()

    assert [house.queue.tasks["batch_1", number] for number in range(5)] == [
        LineTask(0, 0, 2),
        LineTask(1, 2, 4),
        LineTask(2, 4, 5),
        LineTask(3, 5, 7),
        LineTask(4, 7, 8),
    ]


def test_each_section_goes_on_from_its_own_cursor(house: PipelineHouse) -> None:
    house.add_for({"gpu": 40, "cpu": 40})
    house.dispatch.refill()
    house.record(*range(20), *range(40, 50))

    house.dispatch.refill()

    gpu, cpu = house.batch().sections
    assert (gpu.next_task, cpu.next_task) == (40, 60)
    assert house.batch().tasks_dispatched == 60
    assert sorted(house.published()) == list(range(60))


def test_what_is_left_of_one_section_is_sent_when_the_others_are_sent_whole(house: PipelineHouse) -> None:
    house.add_for({"gpu": 5, "cpu": 25})
    for done in ([], range(5, 15), range(15, 25)):
        house.record(*done)
        house.dispatch.refill()

    assert sent_to(house, "cpu") == list(range(5, 30))
    assert house.dispatch.refill() == 0


def test_what_one_upstream_was_sent_before_the_database_went_away_is_sent(house: PipelineHouse) -> None:
    store = TroubledStore(house.database, troubled=range(100, 200))
    house.add_for({"gpu": 100, "cpu": 100})

    sent = house.dispatch_over(store).refill()
    sent_in_trouble = sent_to(house, "gpu"), sent_to(house, "cpu")
    store.troubled = range(0)
    house.dispatch_over(store).refill()

    assert sent == GPU_WINDOW
    assert sent_in_trouble == (list(range(GPU_WINDOW)), [])
    assert sent_to(house, "cpu") == list(range(100, 110))
    assert house.queue.opened_chords == [("batch_1", 200)]


def test_once_the_database_was_away_no_further_upstream_waits_for_it_in_that_refill(house: PipelineHouse) -> None:
    store = TroubledStore(house.database, troubled=range(100))
    house.add_for({"gpu": 100, "cpu": 100})

    sent = house.dispatch_over(store).refill()
    asked = list(store.asked)
    store.troubled = range(0)
    sent_later = house.dispatch_over(store).refill()

    assert (sent, asked) == (0, [0])
    assert sent_later == GPU_WINDOW + CPU_WINDOW
    assert house.queue.opened_chords[0] == ("batch_1", 200)


def test_lines_for_an_upstream_that_is_no_longer_configured_wait_and_the_others_go(house: PipelineHouse) -> None:
    house.add_for({"gone": 5, "cpu": 5})
    house.add_for({"gone": 5}, "batch_gone")

    assert house.dispatch.refill() == 5
    assert sent_to(house, "cpu") == list(range(5, 10))
    assert house.batch("batch_gone").tasks_dispatched == 0


def test_closing_waits_for_what_was_sent_of_all_sections(house: PipelineHouse) -> None:
    house.add_for({"gpu": 100, "cpu": 100})
    house.dispatch.refill()
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, house.clock.now())

    house.dispatch.close("batch_1")

    assert house.queue.closed_chords == [("batch_1", GPU_WINDOW + CPU_WINDOW, 200)]


def test_a_tenants_lines_with_one_upstream_count_nothing_with_another(house: PipelineHouse) -> None:
    house.add_for({"gpu": 1_000}, "batch_gpu", tenant_id="both")
    house.dispatch.refill()
    house.add_for({"cpu": 1_000}, "batch_cpu", tenant_id="both")
    house.add_for({"cpu": 1_000}, "batch_other", tenant_id="other")

    house.dispatch.refill()

    assert len(house.published("batch_cpu")) == len(house.published("batch_other")) == CPU_WINDOW // 2


def test_what_is_sent_whole_counts_for_its_tenant_with_the_right_upstream(house: PipelineHouse) -> None:
    house.add_for({"gpu": 3, "cpu": 4}, tenant_id="first")
    house.add_for({"gpu": 2, "cpu": 100}, "batch_2", tenant_id="second")
    house.dispatch.refill()

    look = SharingService(house.batches, house.roster, house.clock, Weights(), house.upstreams).look()

    outstanding = {
        (lane.upstream, tenant.id): tenant.outstanding for lane in look.lanes for tenant in lane.sharing.tenants
    }
    assert outstanding == {
        ("gpu", "first"): 3,
        ("gpu", "second"): 2,
        ("cpu", "first"): 4,
        ("cpu", "second"): CPU_WINDOW - 4,
    }


def test_a_window_is_made_by_the_workers_that_call_the_upstream(house: PipelineHouse) -> None:
    house.add_worker_of("worker-2", gpu=2)

    workers = house.roster.workers()

    assert [window_lines(workers, upstream) for upstream in ("gpu", "cpu", "new")] == [25, 10, 256]
