import asyncio

import pytest

from app.domain.concurrency import Outcome
from app.domain.rates import RateLimit
from app.domain.result import REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.services.ports import Answer, LaneState
from tests.fakes.outside import good_answer
from tests.unit.workers.lane_house import CONCURRENCY, PER_MINUTE, House, RecordingLimit
from workers.lane import Lane


def test_as_many_lines_begin_as_there_are_slots() -> None:
    house = House()
    begun = house.begun()

    house.lane.end()

    assert begun == CONCURRENCY
    assert house.begun() == 1


def test_no_more_lines_begin_than_the_limit_allows_now() -> None:
    house = House(limit=RecordingLimit(2))

    assert house.begun() == 2
    house.limit.limit = 1
    house.lane.end()
    assert house.begun() == 0
    house.lane.end()
    assert house.begun() == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (good_answer(), Outcome.ANSWERED),
        (Answer(Trouble.AWAY, 429), Outcome.REFUSED),
        (Answer(Trouble.AWAY, 503), Outcome.REFUSED),
        (Answer(Trouble.AWAY, 529), Outcome.REFUSED),
        (Answer(Trouble.FLAKY, error=REQUEST_TIMEOUT), Outcome.REFUSED),
        (Answer(Trouble.FLAKY, 500), Outcome.DROPPED),
        (Answer(Trouble.FINAL, 400), Outcome.DROPPED),
        (Answer(Trouble.AWAY, error=("connection_failed", "Nobody is there.")), Outcome.DROPPED),
    ],
)
def test_the_limit_is_told_how_calls_end(answer: Answer, outcome: Outcome) -> None:
    limit = RecordingLimit(8)
    house = House([answer], limit=limit)

    assert house.call() == answer
    assert limit.outcomes == [outcome]
    assert limit.in_flight == 0


def test_a_call_that_its_batch_ends_says_nothing_of_the_upstream() -> None:
    limit = RecordingLimit(8)
    house = House([Answer(Trouble.FLAKY, error=REQUEST_TIMEOUT)], limit=limit)

    house.call(timeout_s=59.9)

    assert limit.outcomes == [Outcome.DROPPED]


@pytest.mark.parametrize("fault", [ZeroDivisionError(), asyncio.CancelledError()])
def test_a_call_that_is_broken_off_says_nothing_and_is_over(fault: BaseException) -> None:
    limit = RecordingLimit(8)
    house = House([fault], limit=limit)

    with pytest.raises(type(fault)):
        house.call()

    assert limit.outcomes == [Outcome.DROPPED]
    assert limit.in_flight == 0


def test_a_second_says_how_fast_lines_were_answered() -> None:
    house = House()
    house.lane.answered, house.lane.paused = 50, 3
    house.clock.advance(0.5)

    first = house.lane.measure()
    house.clock.advance(1)

    assert (first.slots, first.lines_per_s, first.lines_paused, first.in_flight) == (CONCURRENCY, 100.0, 3, 0)
    assert house.lane.measure().lines_per_s == 0.0


def test_what_bounds_the_calls_is_said() -> None:
    limit = RecordingLimit(1_000)
    house = House(limit=limit)
    by_slots = house.lane.measure()

    limit.limit, limit.reason = 2, "refused"
    by_limit = house.lane.measure()

    assert (by_slots.slots, by_slots.bound_by) == (CONCURRENCY, "ceiling")
    assert (by_limit.slots, by_limit.bound_by) == (2, "refused")


def test_lines_that_have_sped_up_are_noticed_after_a_moment() -> None:
    house = House()
    house.lane.answered = 10
    too_early = house.lane.has_sped_up(0.2, 1.5)
    house.clock.advance(0.2)

    assert not too_early
    assert house.lane.has_sped_up(0.2, 1.5)
    house.lane.measure()
    house.lane.answered = 20
    house.clock.advance(0.2)
    assert not house.lane.has_sped_up(0.2, 1.5)


def test_a_few_lines_more_than_none_are_no_speed() -> None:
    house = House()
    house.lane.answered = CONCURRENCY - 1
    house.clock.advance(0.2)

    assert not house.lane.has_sped_up(0.2, 1.5)


def test_a_time_without_lines_is_left_out_of_the_pace() -> None:
    house = House()
    house.clock.advance(10)

    house.begun()
    house.clock.advance(0.5)
    house.lane.answered = 100

    assert house.lane.measure().lines_per_s == 200.0


def test_a_moment_between_two_lines_counts_in_the_pace() -> None:
    house = House()
    house.lane.begin()
    house.clock.advance(0.5)
    house.lane.answered = 1
    house.lane.end()
    house.clock.advance(0.1)

    house.lane.begin()
    house.clock.advance(0.4)
    house.lane.answered = 2

    assert house.lane.measure().lines_per_s == 2.0


def test_only_a_lane_with_slots_left_waits_for_time() -> None:
    metered, full = House(rate=RateLimit(PER_MINUTE, None)), House()
    rising = House(limit=RecordingLimit(1_000, is_adaptive=True))
    rising.limit.limit = 1
    for house in (metered, full, rising):
        house.begun()

    assert [house.lane.waits_for_time for house in (metered, full, rising)] == [True, False, True]
    assert not House(max_in_flight=4).lane.waits_for_time


def test_a_lane_that_was_idle_is_not_blocked_by_calls_that_have_just_begun() -> None:
    house = House()
    house.clock.advance(3_600.0)
    house.begun()

    given_back = house.lane.lines_to_give_back(0, [LaneState(3), LaneState(3)], waiting=5)
    house.clock.advance(10.0)
    given_back_later = house.lane.lines_to_give_back(0, [LaneState(3), LaneState(3)], waiting=5)

    assert (given_back, given_back_later) == (0, 3)


def test_calls_that_have_just_begun_after_an_idle_time_let_no_batch_pass_the_limit() -> None:
    house = House(limit=RecordingLimit(2))
    house.clock.advance(3_600.0)

    assert house.begun() == 2


def test_closing_closes_the_upstream() -> None:
    house = House()

    asyncio.run(_awaited(house.lane))

    assert house.upstream.is_closed


async def _awaited(lane: Lane) -> None:
    await lane.close()
