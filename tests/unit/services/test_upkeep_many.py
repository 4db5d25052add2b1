"""Repair of more batches than one tick looks at."""

from dataclasses import replace

import pytest

from app.domain.lifecycle import Status
from tests.unit.services.pipeline_house import NOW, PipelineHouse, new_batch

MANY = 1_100
TICK_S = 3


@pytest.fixture
def house() -> PipelineHouse:
    house = PipelineHouse()
    for number in range(MANY):
        batch = new_batch(name_of(number), expires_at=NOW + 3_600 + number)
        house.batches.add(replace(batch, status=Status.IN_PROGRESS, total=1, tasks_dispatched=1))
    return house


def name_of(number: int) -> str:
    return f"batch_{number:04}"


def look(house: PipelineHouse, ticks: int) -> None:
    for _ in range(ticks):
        house.upkeep.repair()
        house.clock.advance(TICK_S)


def repaired(house: PipelineHouse) -> list[str]:
    return [batch_id for batch_id, _ in house.queue.repeated]


def test_what_is_lost_of_any_of_many_batches_is_sent_again(house: PipelineHouse) -> None:
    look(house, 9)

    assert sorted(repaired(house)) == [name_of(number) for number in range(MANY)]


def test_after_the_last_of_many_batches_come_the_first_again(house: PipelineHouse) -> None:
    look(house, 9)
    house.queue.waiting.clear()

    look(house, 3)

    assert sorted(repaired(house)[MANY:]) == [name_of(number) for number in range(500)]


def test_those_that_move_up_while_others_end_are_not_passed_over(house: PipelineHouse) -> None:
    look(house, 2)
    for number in range(400):
        house.record(0, batch_id=name_of(number))

    look(house, 4)

    assert repaired(house) == [name_of(number) for number in range(400, 1_000)]


def test_batches_with_nothing_outstanding_take_no_place(house: PipelineHouse) -> None:
    for number in range(1_000):
        house.record(0, batch_id=name_of(number))

    look(house, 3)

    assert repaired(house) == [name_of(number) for number in range(1_000, MANY)]
