import asyncio
from contextlib import suppress

import pytest

from app.domain.batch import Usage
from app.domain.rates import FIRST_ESTIMATE_TOKENS, RateLimit
from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.fakes.outside import good_answer
from tests.unit.workers.lane_house import CONCURRENCY, PER_MINUTE, House
from tests.unit.workers.waiting import CHAT


def test_a_line_is_charged_when_it_begins_so_that_no_lot_begins_by_one_look() -> None:
    house = House(rate=RateLimit(PER_MINUTE, None))

    begun = house.begun()
    house.clock.advance(0.9)
    too_early = house.begun()
    house.clock.advance(0.1)

    assert (begun, too_early, house.begun()) == (1, 0, 1)


def test_the_call_of_a_line_that_has_begun_is_not_charged_again() -> None:
    house = House(rate=RateLimit(PER_MINUTE, None))
    house.lane.begin()

    house.call()
    house.clock.advance(1)

    assert house.begun() == 1


def test_a_call_without_a_beginning_is_charged_too() -> None:
    house = House(rate=RateLimit(PER_MINUTE, None))

    house.call()

    assert house.begun() == 0
    house.clock.advance(1)
    assert house.begun() == 1


def test_a_line_that_ends_without_a_call_pays_nothing() -> None:
    house = House(rate=RateLimit(PER_MINUTE, None))
    for _ in range(5):
        assert house.lane.begin()
        house.lane.end()

    assert house.begun() == 1
    # Nor does it pay for one that runs alone, beside the bounds.
    house.lane.end()
    house.call()
    house.clock.advance(1)
    assert house.begun() == 1


def test_a_line_that_ends_without_a_call_pays_nothing_while_another_is_called() -> None:
    house = House(rate=RateLimit(PER_MINUTE, None))
    house.call()
    house.clock.advance(10)

    async def end_one_amid_the_call_of_the_other() -> None:
        house.lane.begin()
        house.lane.begin()
        house.upstream.before_answer = house.lane.end
        await house.lane.call(CHAT, b"{}", 60)
        house.lane.end()

    asyncio.run(end_one_amid_the_call_of_the_other())

    # Of the three that a rest is made up for with, and one more, one was called.
    assert house.begun() == CONCURRENCY


def test_a_line_that_runs_alone_may_take_the_charge_of_one_that_has_begun() -> None:
    house = House(rate=RateLimit(PER_MINUTE, None))
    house.call()
    house.clock.advance(10)
    house.lane.begin()

    async def end_one_amid_the_call_of_the_one_alone() -> None:
        # The one that has begun finds its ticket gone, and ends first.
        house.upstream.before_answer = house.lane.end
        await house.lane.call(CHAT, b"{}", 60)

    asyncio.run(end_one_amid_the_call_of_the_one_alone())

    assert house.begun() == CONCURRENCY


def test_a_server_that_says_nothing_of_tokens_gets_no_end_of_them() -> None:
    house = House([good_answer()._replace(usage=Usage())] * 2, rate=RateLimit(None, FIRST_ESTIMATE_TOKENS))
    house.lane.begin()
    house.call()
    house.lane.end()
    house.clock.advance(59)
    too_early = house.begun()
    house.clock.advance(1)

    assert (too_early, house.begun()) == (0, 1)


def test_no_more_is_taken_ahead_than_a_rate_lets_begin_soon() -> None:
    metered, slow = House(rate=RateLimit(2 * PER_MINUTE, None)), House(rate=RateLimit(None, PER_MINUTE))
    states = [house.lane.measure() for house in (metered, slow)]

    metered.limit.in_flight = 1
    with_a_call = metered.lane.measure()

    assert [(state.slots, state.bound_by) for state in states] == [(2, "rate"), (1, "rate")]
    assert (with_a_call.slots, with_a_call.bound_by) == (CONCURRENCY, "ceiling")


def test_what_an_answer_took_takes_the_place_of_what_was_reckoned() -> None:
    answer = good_answer()._replace(usage=Usage(input_tokens=40, output_tokens=20))
    house = House([answer], rate=RateLimit(None, PER_MINUTE))
    house.lane.begin()

    house.call()
    house.lane.end()
    house.clock.advance(59)
    too_early = house.begun()
    house.clock.advance(1)

    assert (too_early, house.begun()) == (0, 1)


@pytest.mark.parametrize("entry", [Answer(Trouble.AWAY, 429), ZeroDivisionError()])
def test_a_call_without_an_answer_stays_charged_as_it_was(entry: Answer | Exception) -> None:
    house = House([entry], rate=RateLimit(None, PER_MINUTE))
    house.lane.begin()

    with suppress(ZeroDivisionError):
        house.call()
    house.clock.advance(900)

    assert house.begun() == 0
