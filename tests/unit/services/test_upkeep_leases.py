"""Leases of those who died or stand still, as upkeep breaks them."""

import pytest

from tests.unit.services.pipeline_house import NOW, PipelineHouse, new_batch


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def test_a_holder_on_this_host_whose_process_ended_is_followed_at_once(house: PipelineHouse) -> None:
    """As after a power cut."""
    for number, owner in enumerate(["dead", "alive"]):
        house.batches.add(new_batch(f"batch_{number}"))
        house.batches.lease(f"batch_{number}", owner)
    house.upkeep.repair()
    house.configure(*house.upstreams, is_abandoned=lambda owner: owner == "dead")

    house.upkeep.repair()

    assert house.queue.validated == ["batch_0"]


def test_a_lease_that_is_renewed_is_not_broken(house: PipelineHouse) -> None:
    house.batches.add(new_batch())

    for _ in range(40):
        house.batches.lease("batch_1", "at-work")
        house.clock.advance(3)
        house.upkeep.repair()

    assert house.queue.validated == []


@pytest.mark.parametrize("seconds", [-3_600, 3_600])
def test_a_clock_that_is_set_breaks_no_lease(house: PipelineHouse, seconds: float) -> None:
    house.batches.add(new_batch())
    house.batches.lease("batch_1", "at-work")
    house.upkeep.repair()

    house.clock.step(seconds)
    house.upkeep.repair()

    assert house.queue.validated == []


def test_a_finalizer_that_died_is_followed_once_its_lease_was_seen_to_stay(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.record(0)
    house.batches.lease("batch_1", "dead")
    house.batches.seal("batch_1", "dead", NOW)
    house.upkeep.repair()
    house.clock.advance(3)
    house.upkeep.repair()
    while_leased = list(house.queue.finalized)

    house.clock.advance(3)
    house.upkeep.repair()

    assert while_leased == []
    assert house.queue.finalized == ["batch_1"]
