import pytest

from app.domain.lifecycle import Event, Status
from tests.unit.services.pipeline_house import PipelineHouse


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def test_before_a_worker_reports_a_first_helping_is_sent(house: PipelineHouse) -> None:
    house.add_running(total=1_000)

    sent = house.dispatch.refill()

    assert sent == 256
    assert house.published() == list(range(256))


def test_the_window_is_four_lines_for_each_slot_of_all_workers(house: PipelineHouse) -> None:
    house.add_worker("worker-1", 8)
    house.add_worker("worker-2", 12)
    house.add_running(total=1_000)

    assert house.dispatch.refill() == 80


def test_fast_workers_get_what_they_do_in_a_moment(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8, lines_per_s=1_000.0)
    house.add_running(total=10_000)

    assert house.dispatch.refill() == 600


def test_the_window_is_bounded_whatever_the_workers_say(house: PipelineHouse) -> None:
    house.add_worker(concurrency=4_096, lines_per_s=1e9)
    house.add_running(total=50_000)

    assert house.dispatch.refill() == 20_000


def test_the_chord_is_opened_once_with_all_tasks_of_the_batch(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8)
    house.add_running(total=100)
    house.dispatch.refill()
    house.record(*range(32))

    house.dispatch.refill()

    assert house.queue.opened_chords == [("batch_1", 100)]
    assert house.published() == list(range(64))


def test_a_window_more_than_half_full_is_left_alone(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8)
    house.add_running(total=100)
    house.dispatch.refill()
    house.record(*range(15))
    sent_early = house.dispatch.refill()
    house.record(15)

    sent = house.dispatch.refill()

    assert (sent_early, sent) == (0, 16)


def test_tasks_carry_their_lines_and_the_last_one_the_rest(house: PipelineHouse) -> None:
    house.add_running(total=25, lines_per_task=10)

    house.dispatch.refill()

    assert [tuple(task) for task in house.queue.tasks.values()] == [(0, 0, 10), (1, 10, 20), (2, 20, 25)]


def test_batches_share_the_window_line_by_line(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8)
    house.add_running("batch_large", total=50_000)
    house.add_running("batch_small", total=10)

    house.dispatch.refill()

    assert house.published("batch_small") == list(range(10))
    assert house.published("batch_large") == list(range(22))


def test_a_batch_whose_tasks_are_larger_than_the_window_leaves_others_their_share(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8)
    house.add_running("batch_large", total=50_000, lines_per_task=50)
    house.add_running("batch_small", total=10)

    house.dispatch.refill()

    assert house.published("batch_large") == [0]
    assert house.published("batch_small") == list(range(8))


def test_a_batch_whose_lines_all_wait_leaves_the_others_their_share(house: PipelineHouse) -> None:
    house.add_worker(concurrency=8)
    house.add_running("batch_waiting", total=1_000)
    house.dispatch.refill()
    sent_before = len(house.queue.published)
    house.add_running("batch_new", total=5)

    house.dispatch.refill()
    house.dispatch.refill()

    assert sent_before == 32
    assert house.published("batch_new") == list(range(5))
    assert len(house.published("batch_waiting")) == sent_before


def test_the_nearest_deadline_has_the_first_turn(house: PipelineHouse) -> None:
    house.add_worker(concurrency=1)
    house.add_running("batch_later", total=100, expires_at=2_000_000_000.0)
    house.add_running("batch_sooner", total=3, expires_at=1_900_000_000.0)

    house.dispatch.refill()

    assert house.published("batch_sooner") == [0, 1]
    assert house.published("batch_later") == [0, 1]
    assert house.queue.published[0] == ("batch_sooner", 0)


def test_a_batch_dispatched_whole_is_sent_no_more(house: PipelineHouse) -> None:
    house.add_running(total=3)
    house.dispatch.refill()

    assert house.dispatch.refill() == 0
    assert house.batch().tasks_dispatched == 3


@pytest.mark.parametrize("event", [Event.CANCEL_REQUESTED, Event.WINDOW_ELAPSED])
def test_a_batch_that_ends_is_sent_no_more(house: PipelineHouse, event: Event) -> None:
    house.add_running()
    house.batches.advance("batch_1", event, house.clock.now())

    assert house.dispatch.refill() == 0
    assert house.queue.published == []


def test_of_two_dispatchers_one_works(house: PipelineHouse) -> None:
    house.add_running()

    with house.roster.lock("dispatch", 10):
        sent = house.dispatch.refill()

    assert sent == 0
    assert house.dispatch.refill() == 10


def test_tasks_that_could_not_be_sent_count_as_sent_for_upkeep_to_find(house: PipelineHouse) -> None:
    house.add_running()
    house.queue.fail()

    house.dispatch.refill()

    assert house.batch().tasks_dispatched == 10
    assert house.batch().lines_outstanding == 10


def test_closing_waits_for_what_was_sent(house: PipelineHouse) -> None:
    house.add_worker(concurrency=1)
    house.add_running(total=100)
    house.dispatch.refill()
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, house.clock.now())

    house.dispatch.close("batch_1")

    assert house.queue.closed_chords == [("batch_1", 4, 100)]
    assert house.queue.finalized == []


def test_closing_ends_at_once_where_nothing_is_out(house: PipelineHouse) -> None:
    house.add_running()
    house.batches.advance("batch_1", Event.WINDOW_ELAPSED, house.clock.now())

    house.dispatch.close("batch_1")

    assert house.queue.finalized == ["batch_1"]
    assert house.queue.closed_chords == []


def test_closing_ends_a_batch_that_was_never_validated(house: PipelineHouse) -> None:
    house.add_running()
    house.alter(status=Status.VALIDATING, total=0)
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, house.clock.now())

    house.dispatch.close("batch_1")

    assert house.queue.finalized == ["batch_1"]


@pytest.mark.parametrize("status", [Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLED, Status.COMPLETED])
def test_what_does_not_end_early_is_not_closed(house: PipelineHouse, status: Status) -> None:
    house.add_running()
    house.alter(status=status)

    house.dispatch.close("batch_1")
    house.dispatch.close("batch_unknown")

    assert house.queue.finalized == house.queue.closed_chords == []
