"""What dead processes and late messages leave in the broker, and who deletes it."""

import pytest

from app.domain.ids import group_id, task_id
from app.services.ports import Unacked
from tests.unit.services.pipeline_house import NOW, PipelineHouse

LONG_AGO = NOW - 61


@pytest.fixture
def house() -> PipelineHouse:
    house = PipelineHouse()
    house.add_running("batch_running")
    return house


def left(house: PipelineHouse) -> list[str]:
    return [message.tag for _, message in house.queue.taken]


def take(house: PipelineHouse, task: str, *, at: float = LONG_AGO, batch_id: str | None = None) -> None:
    house.queue.taken.append((at, Unacked(f"tag-{task}", task, batch_id is None, batch_id)))


def test_chords_of_batches_that_ended_are_dropped(house: PipelineHouse) -> None:
    house.queue.kept_chords = {group_id("batch_running"), group_id("batch_over")}

    house.upkeep.sweep_broker()

    assert house.queue.kept_chords == {group_id("batch_running")}


def test_messages_that_a_dead_worker_took_are_dropped(house: PipelineHouse) -> None:
    take(house, task_id("batch_running", 0))

    house.upkeep.sweep_broker()

    assert left(house) == []


def test_messages_that_a_live_worker_holds_are_kept(house: PipelineHouse) -> None:
    held = task_id("batch_running", 0)
    house.add_worker(held_tasks=(held,))
    take(house, held)

    house.upkeep.sweep_broker()

    assert left(house) == [f"tag-{held}"]


def test_messages_taken_just_now_are_kept(house: PipelineHouse) -> None:
    take(house, "task-1", at=NOW - 59)

    house.upkeep.sweep_broker()

    assert left(house) == ["tag-task-1"]


def test_what_control_does_for_a_running_batch_is_kept_and_for_others_dropped(house: PipelineHouse) -> None:
    take(house, "finalizing", batch_id="batch_running")
    take(house, "late", batch_id="batch_over")

    house.upkeep.sweep_broker()

    assert left(house) == ["tag-finalizing"]


def test_losses_are_forgotten_with_their_batch(house: PipelineHouse) -> None:
    for batch_id in ("batch_running", "batch_over"):
        house.roster.count_losses(batch_id, [1])

    house.upkeep.sweep_broker()

    assert house.roster.batches_with_losses() == {"batch_running"}
