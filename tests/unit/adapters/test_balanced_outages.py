"""Servers of a balanced upstream that fail: who is left alone, for how long, and what brings it back."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.adapters.balanced_house import (
    BROKEN,
    GOOD,
    LIMITED,
    REFUSED,
    SILENT,
    TIMED_OUT,
    House,
    http,
    settle,
)

FAULTS = [
    *(Answer(Trouble.FLAKY, status, "r", b"{}") for status in (500, 501, 520, 521, 522, 530)),
    *(Answer(Trouble.DENIED, status, "r", b"{}") for status in (401, 402, 403, 404)),
]
BUSY = [http(status) for status in (502, 503, 504, 529)]


def test_a_server_that_refuses_a_connection_is_left_alone_at_once() -> None:
    async def run() -> None:
        house = House(2)

        await house.let(0, REFUSED)
        await house.begin(4)

        assert house.left_alone == [0]
        assert house.in_flight == [0, 4]
        assert house.status(0).last_error == REFUSED.error[1]

    asyncio.run(run())


@pytest.mark.parametrize(
    "failure", [TIMED_OUT, BROKEN, *BUSY, *FAULTS], ids=lambda answer: str(answer.status or answer.error[0])
)
def test_a_server_that_fails_three_times_in_a_row_is_left_alone(failure: Answer) -> None:
    async def run() -> None:
        house = House(2)

        await house.let(0, failure, failure)
        before = house.left_alone
        await house.let(0, failure)

        assert (before, house.left_alone) == ([], [0])

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [GOOD, LIMITED, Answer(Trouble.FINAL, 400, "r", b"{}")],
    ids=lambda answer: str(answer.status),
)
def test_an_answer_between_failures_shows_that_the_server_is_there(answer: Answer) -> None:
    async def run() -> None:
        house = House(2)

        await house.let(0, *BUSY[:2], answer, *BUSY[:2])

        assert house.left_alone == []

    asyncio.run(run())


@pytest.mark.parametrize("answer", [LIMITED, SILENT], ids=["429", "silent"])
def test_what_says_nothing_of_the_server_never_has_it_left_alone(answer: Answer) -> None:
    async def run() -> None:
        house = House(2)

        await house.let(0, *[answer] * 10)

        assert house.left_alone == []

    asyncio.run(run())


def test_a_server_that_is_left_alone_gets_one_call_once_its_pause_is_over() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)

        house.clock.advance(0.99)
        await house.begin(2)
        before = house.in_flight
        house.clock.advance(0.01)
        await house.begin(5)

        assert before == [0, 2]
        assert house.in_flight == [1, 6]
        assert house.status(0).probe_in_s == 0

    asyncio.run(run())


def test_a_server_whose_probe_is_answered_takes_calls_again() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        house.clock.advance(1.0)
        await house.begin()

        house.servers[0].end()
        await settle()
        await house.begin(4)

        assert house.in_flight == [2, 2]
        assert house.status(0) == ("http://0/v1", 2, False, None, None)

    asyncio.run(run())


def test_a_probe_that_is_limited_shows_that_the_server_is_back() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        house.clock.advance(1.0)

        await house.let(0, LIMITED)

        assert house.left_alone == []

    asyncio.run(run())


@pytest.mark.parametrize("failure", [REFUSED, TIMED_OUT, BUSY[1], FAULTS[0], FAULTS[-1]])
def test_each_probe_that_fails_doubles_the_pause_up_to_its_longest(failure: Answer) -> None:
    async def run() -> list[float | None]:
        house = House(2)
        await house.let(0, *([failure] * 3 if failure.status else [REFUSED]))
        pauses = []
        for _ in range(7):
            pauses.append(house.status(0).probe_in_s)
            house.clock.advance(pauses[-1] or 0.0)
            await house.let(0, failure)
        return pauses

    assert asyncio.run(run()) == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("ending", [SILENT], ids=["silent"])
def test_a_probe_that_says_nothing_of_the_server_has_another_follow_soon_and_lengthens_no_pause(
    ending: Answer,
) -> None:
    async def run() -> list[float | None]:
        house = House(2)
        await house.let(0, REFUSED)
        pauses = []
        for answer in (REFUSED, REFUSED, ending, ending, REFUSED):
            house.clock.advance(house.status(0).probe_in_s or 0.0)
            await house.let(0, answer)
            pauses.append(house.status(0).probe_in_s)
        return pauses

    assert asyncio.run(run()) == [2, 4, 1, 1, 8]


def test_a_new_outage_begins_with_a_short_pause() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        for answer in (REFUSED, REFUSED, GOOD):
            house.clock.advance(house.status(0).probe_in_s or 0.0)
            await house.let(0, answer)

        await house.let(0, REFUSED)

        assert house.status(0).probe_in_s == 1

    asyncio.run(run())


def test_a_pause_is_up_to_a_quarter_shorter_so_that_workers_do_not_come_back_as_one() -> None:
    async def run(drawn: float) -> float | None:
        house = House(2, draw=lambda: drawn)
        await house.let(0, REFUSED)
        return house.status(0).probe_in_s

    assert [asyncio.run(run(drawn)) for drawn in (0.0, 0.5, 1.0)] == [1.0, 0.875, 0.75]


def test_a_server_that_says_for_how_long_is_left_alone_so_long_but_never_past_the_longest_pause() -> None:
    async def run(asked_s: float) -> float | None:
        house = House(2)
        await house.let(0, *[http(503, asked_s)] * 3)
        return house.status(0).probe_in_s

    assert [asyncio.run(run(asked_s)) for asked_s in (0.1, 12.0, 600.0)] == [1.0, 12.0, 30.0]


def test_calls_that_were_in_flight_when_a_server_went_away_say_nothing_more() -> None:
    async def run() -> None:
        house = House(2)
        await house.begin(10)
        house.servers[0].end(REFUSED)
        await settle()

        for answer in (REFUSED, REFUSED, REFUSED):
            house.servers[0].end(answer)
            await settle()
        left = house.status(0)
        house.clock.advance(1.0)
        await house.begin()
        house.servers[0].end(REFUSED)
        await settle()

        assert (left.is_left_alone, left.probe_in_s) == (True, 1)
        # That was the last of the old ones; the probe is out still.
        assert (house.in_flight[0], house.status(0).probe_in_s) == (1, 0)

    asyncio.run(run())


def test_what_a_call_from_before_an_outage_ran_into_is_over_when_the_server_is_back() -> None:
    async def run() -> None:
        house = House(2)
        await house.begin(4)
        house.servers[0].end(REFUSED)
        await settle()
        house.clock.advance(1.0)
        await house.begin()
        old, probe = house.servers[0].waiting
        probe.set_result(GOOD)
        await settle()

        old.set_result(REFUSED)
        await settle()

        assert house.left_alone == []

    asyncio.run(run())


def test_a_probe_that_is_broken_off_is_given_to_the_next_call() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        house.clock.advance(1.0)
        (probe,) = await house.begin()

        probe.cancel()
        await settle()
        left = house.status(0)
        await house.begin(3)

        assert (left.is_left_alone, left.in_flight, left.probe_in_s) == (True, 0, 0)
        assert house.in_flight == [1, 2]

    asyncio.run(run())


def test_the_log_says_once_that_a_server_is_back() -> None:
    async def run() -> None:
        house = House(2)
        await house.begin(6)
        for _ in range(3):
            house.servers[0].end(REFUSED)
        await settle()
        for answer in (REFUSED, GOOD):
            house.clock.advance(house.status(0).probe_in_s or 0.0)
            await house.let(0, answer)

    with capture_logs() as logs:
        asyncio.run(run())

    assert logs == [
        {"event": "upstream.back", "log_level": "info", "url": "http://0/v1", "model": None, "away_s": 3.0},
    ]
