"""Repair of many batches: what a look reads, and what it knows where it has no time to read."""

from collections.abc import Sequence

import pytest

from app.domain.batch import Section
from app.domain.ids import task_id
from app.domain.lifecycle import Status
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.repair import RepairService
from tests.fakes.results import MemoryResultStore
from tests.unit.services.pipeline_house import NOW, PipelineHouse, new_batch, result_of

TICK_S = 3


class SlowStore(MemoryResultStore):
    """Notes whose lines are read, and lets time pass with each read."""

    def __init__(self, house: PipelineHouse, read_s: float = 0.0) -> None:
        super().__init__(house.database)
        self.house = house
        self.read_s = read_s
        self.read_of: set[str] = set()

    def unrecorded(self, batch_ids: Sequence[str]) -> dict[str, list[int]]:
        self.read_of.update(batch_ids)
        self.house.clock.advance(self.read_s)
        return super().unrecorded(batch_ids)


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


def test_batches_that_a_look_has_no_time_to_read_are_the_first_of_the_next(house: PipelineHouse) -> None:
    # A look has the time for one read, of 200 batches.
    store = SlowStore(house, read_s=1.6)
    for number in range(450):
        add_sent(house, number)
    repair = repair_over(house, store)
    turns = []
    for _ in range(3):
        store.read_of.clear()
        repair.repair()
        turns.append(sorted(store.read_of))

    last = [*range(150), *range(400, 450)]
    assert turns == [[name_of(number) for number in some] for some in (range(200), range(200, 400), last)]


def add_near(house: PipelineHouse) -> set[str]:
    """Add as many batches as are read at once, with the nearest deadlines; return their ids."""
    names = {f"batch_near_{number}" for number in range(200)}
    for name in names:
        house.add_running(name, 2, expires_at=NOW + 60)
        house.dispatch_all(name)
    return names


def test_what_was_missing_stays_so_while_a_look_has_no_time_to_read(house: PipelineHouse) -> None:
    add_sent(house, 0)
    store = SlowStore(house)
    repair = repair_over(house, store)
    look(house, repair)
    # From now on the first read takes all the time there is.
    store.read_s = 5.0
    add_near(house)

    look(house, repair, ticks=2)

    assert repaired(house) == [name_of(0)]


def test_results_that_come_while_a_look_has_no_time_to_read_are_seen_at_the_next_look(house: PipelineHouse) -> None:
    store = SlowStore(house)
    add_sent(house, 0, total=2)
    repair = repair_over(house, store)
    look(house, repair)
    record(house, 0, [0])
    store.read_of.clear()
    # In this look the first read takes all the time there is.
    store.read_s = 5.0
    near = add_near(house)

    look(house, repair)
    read_of = set(store.read_of)
    store.read_s = 0.0
    look(house, repair)

    assert read_of == near
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
