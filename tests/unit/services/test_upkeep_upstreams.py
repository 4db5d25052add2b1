"""What is lost of a batch for several upstreams is sent to where its lines go."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from app.domain.ids import task_id
from app.domain.lifecycle import Event
from app.services.ports import LineTask, Unacked
from tests.unit.services.pipeline_house import NOW, PipelineHouse


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse(upstreams=("gpu", "cpu"))


def arrange_sent(house: PipelineHouse, lines: dict[str, int], *, lines_per_task: int = 1) -> None:
    """Have every task of a batch sent and gone from the queue."""
    house.add_for(lines, lines_per_task=lines_per_task)
    house.dispatch.refill()
    house.queue.waiting.clear()
    house.queue.upstreams.clear()


def sent_again(house: PipelineHouse) -> dict[int, str]:
    return {number: upstream for (_, number), upstream in house.queue.upstreams.items()}


def test_lost_tasks_are_sent_to_the_upstream_of_their_section(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 3, "cpu": 2})
    house.record(1)

    house.look_twice()

    assert sent_again(house) == {0: "gpu", 2: "gpu", 3: "cpu", 4: "cpu"}


def test_a_lost_task_has_the_lines_of_its_section(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 51, "cpu": 51}, lines_per_task=50)
    house.record(*range(51), *range(51, 60))
    house.queue.tasks.clear()

    house.look_twice()

    assert list(house.queue.tasks.values()) == [LineTask(2, 51, 101), LineTask(3, 101, 102)]


def test_a_short_last_task_of_a_section_that_is_recorded_is_not_lost(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 51, "cpu": 51}, lines_per_task=50)
    house.record(50, 101)

    house.look_twice()

    assert house.repeated() == [0, 2]


def test_tasks_of_a_section_that_were_never_dispatched_are_not_lost(house: PipelineHouse) -> None:
    house.add_worker_of(gpu=1, cpu=1)
    house.add_for({"gpu": 10, "cpu": 10})
    house.dispatch.refill()
    house.queue.waiting.clear()

    house.look_twice()

    assert house.repeated() == [0, 1, 10, 11]


def test_what_ends_its_workers_runs_alone_at_its_own_upstream(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 2, "cpu": 2})
    for _ in range(3):
        for number in (1, 2):
            task = task_id("batch_1", number)
            house.queue.waiting.discard(task)
            house.queue.taken.append(Unacked(f"tag-{number}", task, is_lines=True, batch_id=None))
        house.look_twice()

    assert house.queue.alone == [("batch_1", 1), ("batch_1", 2)]
    assert (sent_again(house)[1], sent_again(house)[2]) == ("gpu", "cpu")


def test_tasks_for_an_upstream_that_is_no_longer_configured_are_not_sent_again_and_again(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 2, "cpu": 2})
    house.configure("cpu")

    for _ in range(3):
        house.queue.waiting.clear()
        house.look_twice()

    assert set(sent_again(house)) == {2, 3}
    assert house.repeated() == [2, 3] * 3


def test_tasks_that_waited_for_their_upstreams_return_are_sent_then(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 2})
    house.configure("cpu")
    house.look_twice()
    sent_before = house.repeated()

    house.configure("cpu", "gpu")
    house.look_twice()

    assert sent_before == []
    assert sent_again(house) == {0: "gpu", 1: "gpu"}


def warned_by(house: PipelineHouse) -> list[dict[str, Any]]:
    """Return the warnings of a sweep."""
    with capture_logs() as logs:
        house.upkeep.sweep_broker()
    return [entry for entry in logs if entry["log_level"] == "warning"]


def test_lines_for_an_upstream_that_is_not_configured_are_warned_of_once_a_minute(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 3, "cpu": 2})
    house.add_for({"gpu": 10}, "batch_2", expires_at=NOW + 60)
    house.record(0)
    house.configure("cpu")

    warnings = warned_by(house)
    within_the_minute = warned_by(house)
    house.clock.advance(60)

    assert warnings == [
        {
            "event": "upstream.missing",
            "log_level": "warning",
            "upstream": "gpu",
            "lines": 12,
            "batches": 2,
            "batch_id": "batch_2",
        }
    ]
    assert within_the_minute == []
    assert warned_by(house) == warnings


def test_nobody_is_warned_of_lines_that_have_a_result_or_need_none(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 2, "cpu": 2})
    house.record(0, 1)
    house.add_for({"gpu": 10}, "batch_2")
    house.batches.advance("batch_2", Event.CANCEL_REQUESTED, house.clock.now())
    house.configure("cpu")

    assert warned_by(house) == []


def test_a_batch_for_an_upstream_that_is_gone_ends_when_it_is_cancelled(house: PipelineHouse) -> None:
    arrange_sent(house, {"gpu": 2, "cpu": 2})
    house.configure("cpu")
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, house.clock.now())

    for _ in range(12):
        house.upkeep.repair()
        house.clock.advance(5)

    assert house.queue.finalized == ["batch_1"] * 3
