"""A new batch beside many that run."""

import pytest

from tests.unit.services.pipeline_house import NOW, PipelineHouse


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def test_a_batch_that_has_waited_begins_beside_one_that_has_more_than_its_share(house: PipelineHouse) -> None:
    house.add_worker(concurrency=128)
    house.add_running("batch_large", total=30_000, lines_per_task=30)
    house.dispatch.refill()
    for number in range(3):
        house.add_running(f"batch_small_{number}", total=100)
    house.clock.advance(3)
    house.add_worker(concurrency=128)

    house.dispatch.refill()

    assert [len(house.published(f"batch_small_{number}")) for number in range(3)] == [10, 10, 30]
    assert house.dispatch.refill() == 0


def fill_window(house: PipelineHouse, batches: int = 32) -> None:
    """Have as many large batches as fill a window of 320 lines with a turn each."""
    house.add_worker(concurrency=128)
    for number in range(batches):
        house.add_running(f"batch_large_{number}", total=10_000)
    house.dispatch.refill()
    house.clock.advance(3)
    house.add_worker(concurrency=128)


def test_of_those_that_came_a_while_ago_the_newest_goes_beyond_the_room_that_there_is(house: PipelineHouse) -> None:
    fill_window(house)
    for number in range(3):
        house.add_running(f"batch_later_{number}", total=100)
        house.clock.advance(1)
    house.add_worker(concurrency=128, lines_per_s=100.0)

    house.dispatch.refill()

    assert [len(house.published(f"batch_later_{number}")) for number in range(3)] == [0, 0, 10]


def test_a_new_batch_with_small_turns_has_its_first_lines_one_turn_after_the_other(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8)
    for number in range(30):
        house.add_running(f"batch_large_{number}", total=10_000)
    house.dispatch.refill()
    house.clock.advance(3)
    house.add_worker(concurrency=8)
    house.add_running("batch_new", total=5)
    for position in range(5):
        house.record(0, batch_id=f"batch_large_{position}")
        house.dispatch.refill()
        house.record(position, batch_id="batch_new")

    assert house.published("batch_new") == list(range(5))


@pytest.mark.parametrize("tenants", [1, 3])
def test_however_many_batches_run_a_new_one_gets_its_first_lines_at_the_next_refill(
    house: PipelineHouse, tenants: int
) -> None:
    fill_window(house)
    for number in range(1_000):
        house.add_running(f"batch_{number}", total=3, tenant_id=f"tenant-{number % tenants}")
    house.clock.advance(60)
    house.add_worker(concurrency=128)

    house.add_running("batch_new", total=5, tenant_id="tenant-0", expires_at=NOW + 86_500)
    house.dispatch.refill()

    assert house.published("batch_new") == list(range(5))
