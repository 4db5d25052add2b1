import pytest

from app.domain.ids import task_id
from app.domain.lifecycle import Event, Status
from app.services.ports import REPORT_LIFETIME_S, Unacked
from tests.unit.services.pipeline_house import (
    CANCEL_GRACE_S,
    FINALIZE_MAX_TRIES,
    NOW,
    PipelineHouse,
    new_batch,
)


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def arrange_sent(house: PipelineHouse, total: int = 4, *, lines_per_task: int = 1) -> None:
    """Have every task of a batch sent and gone from the queue."""
    house.add_running(total=total, lines_per_task=lines_per_task)
    house.dispatch.refill()
    house.queue.waiting.clear()


def test_what_is_lost_counts_for_the_same_chord(house: PipelineHouse) -> None:
    arrange_sent(house)

    house.look_twice()

    assert house.queue.opened_chords == [("batch_1", 4)] * 2


def test_a_task_that_waits_in_the_queue_is_not_lost(house: PipelineHouse) -> None:
    arrange_sent(house)
    house.queue.waiting = {task_id("batch_1", 2)}

    house.look_twice()

    assert house.repeated() == [0, 1, 3]


def test_a_task_that_a_live_worker_holds_is_not_lost(house: PipelineHouse) -> None:
    arrange_sent(house)
    house.add_worker(held_tasks=(task_id("batch_1", 0), task_id("batch_1", 1)))

    house.look_twice()

    assert house.repeated() == [2, 3]


def test_what_a_dead_worker_held_is_lost(house: PipelineHouse) -> None:
    arrange_sent(house)
    house.add_worker(held_tasks=tuple(task_id("batch_1", number) for number in range(4)))
    house.upkeep.repair()

    house.clock.advance(REPORT_LIFETIME_S + 1)
    house.look_twice()

    assert house.repeated() == [0, 1, 2, 3]


def test_a_task_with_some_lines_recorded_is_sent_for_the_rest(house: PipelineHouse) -> None:
    arrange_sent(house, 10, lines_per_task=4)
    house.record(0, 1, 2, 3, 4, 8, 9)

    house.look_twice()

    assert house.repeated() == [1]


def test_tasks_that_were_never_dispatched_are_not_lost(house: PipelineHouse) -> None:
    house.add_worker(concurrency=1)
    house.add_running(total=100)
    house.dispatch.refill()
    house.queue.waiting.clear()

    house.look_twice()

    assert house.repeated() == [0, 1]


def test_a_batch_that_was_cancelled_is_not_repaired(house: PipelineHouse) -> None:
    arrange_sent(house)
    house.upkeep.repair()
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)

    house.upkeep.repair()

    assert house.repeated() == []


def test_a_validation_that_waits_as_upkeep_begins_is_sent_again_at_once(house: PipelineHouse) -> None:
    house.batches.add(new_batch())

    house.upkeep.repair()

    assert house.queue.validated == ["batch_1"]


def test_a_validation_is_sent_again_only_after_a_while(house: PipelineHouse) -> None:
    house.upkeep.repair()
    house.batches.add(new_batch())
    house.upkeep.repair()
    at_first = list(house.queue.validated)

    house.clock.advance(6)
    house.upkeep.repair()

    assert at_first == []
    assert house.queue.validated == ["batch_1"]


def test_a_validation_whose_process_died_is_asked_for_as_soon_as_its_lease_is_broken(house: PipelineHouse) -> None:
    house.batches.add(new_batch())
    house.batches.lease("batch_1", "dead")
    house.upkeep.repair()
    house.clock.advance(3)
    house.upkeep.repair()
    while_leased = list(house.queue.validated)

    house.clock.advance(3)
    house.upkeep.repair()

    assert while_leased == []
    assert house.queue.validated == ["batch_1"]


def test_a_validation_that_is_at_work_is_left_alone(house: PipelineHouse) -> None:
    house.batches.add(new_batch())
    house.clock.advance(6)
    house.batches.lease("batch_1", "at-work")

    house.upkeep.repair()

    assert house.queue.validated == []


def test_a_batch_recorded_whole_whose_callback_was_lost_is_finalized(house: PipelineHouse) -> None:
    arrange_sent(house, 2)
    house.record(0, 1)

    house.upkeep.repair()

    assert house.queue.finalized == ["batch_1"]


def test_a_batch_whose_files_cannot_be_written_fails_at_last(house: PipelineHouse) -> None:
    arrange_sent(house, 1)
    house.record(0)
    house.alter(status=Status.FINALIZING, finalize_tries=FINALIZE_MAX_TRIES)

    house.upkeep.repair()

    assert house.batch().status is Status.FAILED
    assert house.queue.finalized == []
    assert [position for position, *_ in house.results.read("batch_1")] == [0]


@pytest.mark.parametrize("event", [Event.CANCEL_REQUESTED, Event.WINDOW_ELAPSED])
def test_a_batch_that_ends_waits_for_its_calls_but_not_for_ever(house: PipelineHouse, event: Event) -> None:
    house.add_running(total=4, expires_at=NOW + 100)
    house.dispatch.refill()
    house.clock.advance(100)
    house.batches.advance("batch_1", event, house.clock.now())
    house.upkeep.repair()
    for _ in range(8):
        house.clock.advance((CANCEL_GRACE_S + 9) / 8)
        house.upkeep.repair()
    in_time = list(house.queue.finalized)

    house.clock.advance(2)
    house.upkeep.repair()

    assert in_time == []
    assert house.queue.finalized == ["batch_1"]


def test_work_on_files_is_asked_for_again_only_after_a_while_where_messages_wait(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.dispatch_all()
    house.record(0)
    house.queue.has_waiting_files = True
    asked = []
    for _ in range(11):
        house.upkeep.repair()
        house.clock.advance(3)
        asked.append(len(house.queue.finalized))

    # A message that was lost is repeated after half a minute, though others wait.
    assert asked == [0] * 10 + [1]


def test_a_cancelled_batch_with_nothing_out_is_finalized_at_once(house: PipelineHouse) -> None:
    house.add_running()
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)

    house.upkeep.repair()

    assert house.queue.finalized == ["batch_1"]


def test_batches_past_their_window_expire_and_the_others_go_on(house: PipelineHouse) -> None:
    house.add_running("batch_over", expires_at=NOW + 10)
    house.batches.add(new_batch("batch_waiting", expires_at=NOW + 10))
    house.add_running("batch_on", expires_at=NOW + 11)
    house.clock.advance(10)

    house.upkeep.expire()

    assert house.batch("batch_over").status is Status.EXPIRING
    assert house.batch("batch_waiting").status is Status.EXPIRING
    assert house.batch("batch_on").status is Status.IN_PROGRESS
    assert house.queue.finalized == ["batch_over", "batch_waiting"]


def test_a_window_does_not_end_what_is_ending_already(house: PipelineHouse) -> None:
    house.add_running("batch_cancelling", expires_at=NOW + 10)
    house.batches.advance("batch_cancelling", Event.CANCEL_REQUESTED, NOW)
    house.add_running("batch_over", expires_at=NOW + 20)
    house.clock.advance(30)

    house.upkeep.expire()

    assert house.batch("batch_cancelling").status is Status.CANCELLING
    assert house.batch("batch_over").status is Status.EXPIRING


def test_ticks_that_come_twice_do_no_harm(house: PipelineHouse) -> None:
    arrange_sent(house, 4)
    house.alter(expires_at=NOW)

    house.upkeep.expire()
    house.upkeep.expire()

    assert house.queue.closed_chords == [("batch_1", 4, 4)]


def lose_with_its_worker(house: PipelineHouse, number: int) -> None:
    """Have a worker take the task and die."""
    task = task_id("batch_1", number)
    house.queue.waiting.discard(task)
    house.queue.taken.append(Unacked(f"tag-{number}", task, is_lines=True, batch_id=None))
    house.look_twice()


def test_a_task_that_was_lost_with_three_workers_is_sent_alone(house: PipelineHouse) -> None:
    arrange_sent(house)
    house.look_twice()

    for _ in range(3):
        lose_with_its_worker(house, 1)

    assert house.repeated() == [0, 1, 2, 3, 1, 1]
    assert house.queue.alone == [("batch_1", 1)]
    assert house.queue.taken == []


def test_messages_that_were_merely_lost_are_no_sign_against_their_lines(house: PipelineHouse) -> None:
    arrange_sent(house)

    for _ in range(5):
        house.queue.waiting.clear()
        house.look_twice()

    assert house.queue.alone == []
    assert len(house.repeated()) == 5 * 4


@pytest.mark.parametrize("skew_s", [-3_600, 3_600])
def test_a_clock_that_is_off_does_not_put_off_a_lost_validation(house: PipelineHouse, skew_s: float) -> None:
    house.upkeep.repair()
    house.batches.add(new_batch(created_at=house.clock.now() + skew_s))

    for _ in range(3):
        house.upkeep.repair()
        house.clock.advance(3)

    assert house.queue.validated == ["batch_1"]
