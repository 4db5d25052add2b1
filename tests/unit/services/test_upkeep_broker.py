"""What dead processes and late messages leave in the broker, and who deletes it."""

import pytest

from app.domain.ids import group_id, task_id
from app.services.ports import Unacked
from tests.unit.services.pipeline_house import PipelineHouse


@pytest.fixture
def house() -> PipelineHouse:
    house = PipelineHouse()
    house.add_running("batch_running")
    return house


def left(house: PipelineHouse) -> list[str]:
    return [message.tag for message in house.queue.taken]


def take(house: PipelineHouse, task: str, *, batch_id: str | None = None) -> None:
    house.queue.taken.append(Unacked(f"tag-{task}", task, batch_id is None, batch_id))


def sweep_for(house: PipelineHouse, seconds: int) -> None:
    """Sweep every 30 s, as beat has it done, for so long."""
    for _ in range(0, seconds, 30):
        house.upkeep.sweep_broker()
        house.clock.advance(30)
    house.upkeep.sweep_broker()


def test_chords_of_batches_that_ended_are_dropped(house: PipelineHouse) -> None:
    house.queue.kept_chords = {group_id("batch_running"), group_id("batch_over")}

    house.upkeep.sweep_broker()

    assert house.queue.kept_chords == {group_id("batch_running")}


def test_messages_that_a_dead_worker_took_are_dropped(house: PipelineHouse) -> None:
    take(house, task_id("batch_running", 0))

    sweep_for(house, 60)

    assert left(house) == []


def test_messages_that_a_live_worker_holds_are_kept(house: PipelineHouse) -> None:
    held = task_id("batch_running", 0)
    take(house, held)

    for _ in range(4):
        house.add_worker(held_tasks=(held,))
        house.upkeep.sweep_broker()
        house.clock.advance(30)

    assert left(house) == [f"tag-{held}"]


@pytest.mark.parametrize("off_s", [0.0, 3_600.0, -3_600.0])
def test_messages_taken_within_a_minute_are_kept_whatever_the_clocks_say(house: PipelineHouse, off_s: float) -> None:
    house.upkeep.sweep_broker()
    house.clock.advance(3_600)
    take(house, "task-1")
    house.clock.step(off_s)

    sweep_for(house, 30)

    assert left(house) == ["tag-task-1"]


def test_what_control_does_for_a_running_batch_is_kept_and_for_others_dropped(house: PipelineHouse) -> None:
    take(house, "finalizing", batch_id="batch_running")
    take(house, "late", batch_id="batch_over")

    sweep_for(house, 60)

    assert left(house) == ["tag-finalizing"]


def test_losses_are_forgotten_with_their_batch(house: PipelineHouse) -> None:
    for batch_id in ("batch_running", "batch_over"):
        house.roster.count_losses(batch_id, [1])

    house.upkeep.sweep_broker()

    assert house.roster.batches_with_losses() == {"batch_running"}


def test_missing_tasks_are_forgotten_with_their_batch(house: PipelineHouse) -> None:
    house.roster.missing_since({"batch_running": [1], "batch_over": [2]})

    house.upkeep.sweep_broker()

    assert house.roster.batches_with_losses() == {"batch_running"}
