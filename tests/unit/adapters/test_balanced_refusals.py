"""Servers of a balanced upstream that all refuse: it may be the model of some calls that is away, and of others not."""

import asyncio

import pytest

from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.adapters.balanced_house import GOOD, REFUSED, SILENT, TIMED_OUT, House, http, settle


async def where_all_refuse(count: int) -> House:
    house = House(count)
    for number in range(count):
        await house.let(number, *[http(503)] * 3)
    assert house.left_alone == [*range(count)]
    return house


def test_where_all_refuse_calls_go_on_in_turns_for_the_models_that_are_served() -> None:
    async def run() -> None:
        house = await where_all_refuse(3)
        before = house.counts
        for server in house.servers:
            server.says = GOOD

        answers = [await house.call() for _ in range(9)]

        assert {answer.trouble for answer in answers} == {Trouble.NONE}
        assert [after - count for after, count in zip(house.counts, before, strict=True)] == [3, 3, 3]
        # The probes alone bring a server back, and keep to their time.
        assert house.left_alone == [0, 1, 2]

    asyncio.run(run())


def test_calls_that_go_on_where_all_refuse_move_no_probe() -> None:
    async def run() -> None:
        house = await where_all_refuse(1)
        house.clock.advance(1.0)
        (probe,) = await house.begin()
        others = await house.begin(4)

        for answer in (http(503), SILENT, GOOD):
            house.servers[0].waiting[-1].set_result(answer)
            await settle()
        others[0].cancel()
        await settle()
        meanwhile = house.status(0)
        house.servers[0].end(http(503))
        await settle()

        assert (probe.done(), meanwhile.is_left_alone, meanwhile.probe_in_s) == (True, True, 0)
        assert house.status(0).probe_in_s == 2.0

    asyncio.run(run())


def test_what_calls_ran_into_where_all_refused_is_over_when_a_server_is_back() -> None:
    async def run() -> None:
        house = await where_all_refuse(2)
        await house.begin(8)
        house.clock.advance(1.0)
        await house.begin()
        house.servers[0].waiting[-1].set_result(GOOD)
        await settle()
        assert house.left_alone == [1]

        for answer in (http(503), http(503), http(503), REFUSED):
            house.servers[0].end(answer)
            await settle()

        assert house.left_alone == [1]

    asyncio.run(run())


def test_where_one_refuses_and_nobody_is_at_the_other_calls_go_to_the_one_that_refuses() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        await house.let(1, *[http(503)] * 3)

        await house.begin(6)

        assert house.left_alone == [0, 1]
        assert house.in_flight == [0, 6]

    asyncio.run(run())


@pytest.mark.parametrize("end", [REFUSED, TIMED_OUT, SILENT], ids=["refused", "timed out", "silent"])
def test_a_server_that_refused_and_is_there_no_more_is_asked_no_more(end: Answer) -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        await house.let(1, *[http(503)] * 3)
        await house.begin(2)

        house.servers[1].end(end)
        await settle()

        assert (await house.call()).trouble is Trouble.AWAY
        assert house.in_flight == [0, 1]

    asyncio.run(run())
