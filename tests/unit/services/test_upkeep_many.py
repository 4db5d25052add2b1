"""Repair of many batches: what a look counts, and what it does not have to."""

from collections import Counter
from collections.abc import Sequence

import pytest

from app.domain.batch import Section
from app.domain.ids import task_id
from app.domain.lifecycle import Status
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.repair import RepairService
from tests.fakes.stores import MemoryResultStore
from tests.unit.services.pipeline_house import NOW, PipelineHouse, new_batch, result_of

TICK_S = 3


class CountingStore(MemoryResultStore):
    """Notes of which batches results are counted, and lets time pass with each count."""

    def __init__(self, house: PipelineHouse, count_s: float = 0.0) -> None:
        super().__init__(house.database)
        self.house = house
        self.count_s = count_s
        self.counted: Counter[str] = Counter()

    def count(self, batch_id: str, first: int, end: int) -> int:
        self.counted[batch_id] += end - first
        self.house.clock.advance(self.count_s)
        return super().count(batch_id, first, end)


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def repair_over(house: PipelineHouse, results: MemoryResultStore) -> RepairService:
    arguments = (house.batches, results, house.queue, house.roster, house.clock, house.upstreams)
    return RepairService(*arguments)


def name_of(number: int) -> str:
    return f"batch_{number:05}"


def add_sent(house: PipelineHouse, number: int, total: int = 1, lines_per_task: int = 1) -> None:
    """Add a batch whose tasks are all handed out and in nobody's hands."""
    house.add_running(name_of(number), total, lines_per_task=lines_per_task, expires_at=NOW + 3_600 + number)
    house.dispatch_all(name_of(number))


def look(house: PipelineHouse, repair: RepairService, ticks: int = 1) -> None:
    for _ in range(ticks):
        repair.repair()
        house.clock.advance(TICK_S)


def repaired(house: PipelineHouse) -> list[str]:
    return [batch_id for batch_id, _ in house.queue.repeated]


def record(house: PipelineHouse, number: int, positions: Sequence[int]) -> None:
    house.results.record([result_of(position, name_of(number)) for position in positions])


def test_what_is_lost_of_any_of_ten_thousand_batches_is_sent_again_in_the_time_of_one() -> None:
    house = PipelineHouse()
    for number in range(10_000):
        batch = new_batch(name_of(number), expires_at=NOW + 3_600 + number)
        house.batches.add(batch)
        sent = Section(DEFAULT_UPSTREAM, 0, 1, 0, 1, next_task=1)
        house.alter(batch.id, status=Status.IN_PROGRESS, total=1, sections=(sent,))

    look(house, repair_over(house, house.results), ticks=3)

    assert repaired(house) == [name_of(number) for number in range(10_000)]


def test_results_that_were_counted_are_not_counted_again(house: PipelineHouse) -> None:
    store = CountingStore(house)
    add_sent(house, 0, total=10_000, lines_per_task=10)
    record(house, 0, range(9_000))
    held = {task_id(name_of(0), number) for number in range(900, 1_000)}
    house.queue.waiting = set(held)
    repair = repair_over(house, store)
    look(house, repair)
    at_first = store.counted.total()

    look(house, repair)
    unchanged = store.counted.total()
    record(house, 0, range(9_000, 9_010))
    house.queue.waiting.discard(task_id(name_of(0), 900))
    look(house, repair)

    assert at_first <= 3 * 10_000
    assert unchanged == at_first
    assert store.counted.total() == at_first + 10


def test_a_task_that_lacks_results_is_not_counted_again_while_none_come(house: PipelineHouse) -> None:
    store = CountingStore(house)
    add_sent(house, 0, total=50, lines_per_task=50)
    repair = repair_over(house, store)

    look(house, repair, ticks=2)

    assert store.counted.total() == 50


def test_a_task_whose_worker_died_is_lost_however_many_tasks_are_done(house: PipelineHouse) -> None:
    add_sent(house, 0, total=1_000)
    house.queue.waiting = {task_id(name_of(0), number) for number in range(1_000)}
    repair = repair_over(house, house.results)
    look(house, repair)
    for number in (*range(500), *range(501, 990)):
        record(house, 0, [number])
        house.queue.waiting.discard(task_id(name_of(0), number))
    house.queue.waiting.discard(task_id(name_of(0), 500))

    look(house, repair, ticks=3)

    assert house.queue.repeated == [(name_of(0), 500)]


def test_batches_that_a_look_has_no_time_to_count_are_the_first_of_the_next(house: PipelineHouse) -> None:
    # Five can be counted in a look.
    store = CountingStore(house, count_s=0.31)
    for number in range(12):
        add_sent(house, number)
    repair = repair_over(house, store)
    turns = []
    for _ in range(3):
        store.counted.clear()
        repair.repair()
        turns.append(sorted(store.counted))

    assert turns == [[name_of(number) for number in some] for some in (range(5), range(5, 10), range(10, 12))]


def test_what_was_missing_stays_so_while_a_look_has_no_time_to_count(house: PipelineHouse) -> None:
    add_sent(house, 0)
    store = CountingStore(house)
    repair = repair_over(house, store)
    look(house, repair)
    # From now on the first batch takes all the time there is.
    store.count_s = 5.0
    house.add_running("batch_near", 2, expires_at=NOW + 60)
    house.dispatch_all("batch_near")

    look(house, repair, ticks=2)

    assert repaired(house) == [name_of(0)]


def test_results_that_come_while_a_look_has_no_time_to_count_are_counted_at_the_next_look(house: PipelineHouse) -> None:
    store = CountingStore(house)
    add_sent(house, 0, total=2)
    repair = repair_over(house, store)
    look(house, repair)
    record(house, 0, [0])
    store.counted.clear()
    # In this look the first batch takes all the time there is.
    store.count_s = 5.0
    house.add_running("batch_near", 2, expires_at=NOW + 60)
    house.dispatch_all("batch_near")

    look(house, repair)
    counted = set(store.counted)
    store.count_s = 0.0
    look(house, repair)

    assert counted == {"batch_near"}
    assert house.queue.repeated == [(name_of(0), 1)]


def test_a_task_recorded_whole_that_leaves_its_worker_is_not_lost_beside_a_lost_task(house: PipelineHouse) -> None:
    add_sent(house, 0, total=2)
    record(house, 0, [1])
    house.queue.waiting = {task_id(name_of(0), 1)}
    repair = repair_over(house, house.results)
    look(house, repair)
    house.queue.waiting.clear()

    look(house, repair, ticks=4)

    assert house.queue.repeated == [(name_of(0), 0)]


def test_a_batch_that_has_ended_is_forgotten(house: PipelineHouse) -> None:
    add_sent(house, 0, total=2)
    repair = repair_over(house, house.results)
    look(house, repair)
    record(house, 0, range(2))

    look(house, repair, ticks=3)

    assert repaired(house) == []
