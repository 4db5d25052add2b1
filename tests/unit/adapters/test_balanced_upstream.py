"""Several servers as one upstream: which of them gets a call, and what a call comes to where none does."""

import asyncio
from collections import Counter

import pytest

from app.adapters.upstream.balanced import open_upstream
from app.domain.retry import Trouble
from tests.unit.adapters.balanced_house import (
    GOOD,
    LIMITED,
    PLAIN,
    REFUSED,
    SILENT,
    House,
    settle,
)

SETTINGS = {"api_key": None, "connect_timeout_s": 1.0, "first_byte_timeout_s": 1.0}


def test_calls_go_to_the_server_with_the_fewest_in_flight() -> None:
    async def run() -> None:
        house = House(3)
        await house.begin(6)
        house.servers[1].end()
        house.servers[1].end()
        await settle()

        await house.begin(2)

        assert house.in_flight == [2, 2, 2]
        assert house.counts == [2, 4, 2]

    asyncio.run(run())


def test_servers_with_as_few_take_turns() -> None:
    async def run() -> None:
        house = House(3)
        for server in house.servers:
            server.says = GOOD

        for _ in range(9):
            await house.call()

        assert house.counts == [3, 3, 3]

    asyncio.run(run())


def test_a_server_that_refuses_at_once_is_not_sent_everything() -> None:
    async def run() -> None:
        house = House(2)
        house.servers[0].says = LIMITED

        await house.begin(20)

        assert house.counts == [10, 10]

    asyncio.run(run())


def test_calls_that_ended_badly_count_as_load_for_a_moment_only() -> None:
    async def run() -> None:
        house = House(2)
        house.servers[0].says = LIMITED
        await house.begin(20)
        house.servers[0].says = None

        house.clock.advance(1.0)
        await house.begin(8)

        assert house.in_flight == [8, 10]

    asyncio.run(run())


def test_where_all_are_left_alone_a_call_comes_back_at_once_and_says_when_to_try_again() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        house.clock.advance(0.25)
        await house.let(1, REFUSED)

        answer = await house.call()

        assert (answer.trouble, answer.retry_after_s) == (Trouble.WITHHELD, 0.75)
        assert answer.error == (
            "connection_failed",
            f"No call was made: http://0/v1 is left alone, as it failed last: {REFUSED.error[1]}",
        )
        assert house.in_flight == [0, 0]

    asyncio.run(run())


def test_where_all_are_left_alone_only_the_first_call_after_the_pause_goes_out() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        house.clock.advance(0.5)
        await house.let(1, REFUSED)
        house.clock.advance(0.5)

        probe, *others = await house.begin(5)

        assert (probe.done(), house.in_flight) == (False, [1, 0])
        assert [call.result().retry_after_s for call in others] == [0.5] * 4
        house.clock.advance(0.5)
        await house.begin(5)
        assert house.in_flight == [1, 1]

    asyncio.run(run())


def test_after_an_outage_of_all_each_server_gets_one_call_until_its_own_probe_is_answered() -> None:
    async def run() -> None:
        house = House(3)
        for number in range(3):
            await house.let(number, REFUSED)
        house.clock.advance(1.0)

        await house.begin(10)
        while_all_are_away = house.in_flight
        house.servers[1].end()
        await settle()
        await house.begin(10)
        house.servers[0].end(SILENT)
        await settle()
        await house.begin(10)

        assert while_all_are_away == [1, 1, 1]
        assert house.left_alone == [0, 2]
        assert house.in_flight == [0, 20, 1]

    asyncio.run(run())


def test_while_all_probes_are_out_others_come_again_soon() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        await house.let(1, REFUSED)
        house.clock.advance(1.0)
        await house.begin(2)

        assert (await house.call()).retry_after_s == 1.0

    asyncio.run(run())


def test_a_call_that_is_withheld_as_the_server_comes_back_says_so_all_the_same() -> None:
    async def run() -> None:
        house = House(1)
        await house.let(0, REFUSED)
        house.clock.advance(1.0)
        await house.begin()

        withheld = asyncio.ensure_future(house.upstream.call(PLAIN, b"{}", 60.0))
        house.servers[0].end()
        await settle()

        assert house.left_alone == []
        assert withheld.result().trouble is Trouble.WITHHELD

    asyncio.run(run())


def test_callers_that_never_stop_let_others_run_while_all_are_left_alone() -> None:
    async def run() -> None:
        house = House(2)
        await house.let(0, REFUSED)
        await house.let(1, REFUSED)

        async def call_for_ever() -> None:
            while True:
                await house.upstream.call("/v1/x", b"{}", 1.0)

        caller = asyncio.ensure_future(call_for_ever())
        await settle()

        caller.cancel()
        await asyncio.wait([caller])

    asyncio.run(run())


def test_a_call_that_is_broken_off_is_in_flight_no_more() -> None:
    async def run() -> None:
        house = House(2)
        calls = await house.begin(4)

        for call in calls[::2]:
            call.cancel()
        await settle()
        await house.begin(2)

        assert house.in_flight == [2, 2]
        assert Counter(call.cancelled() for call in calls) == {True: 2, False: 2}

    asyncio.run(run())


def test_closing_closes_every_server() -> None:
    async def run() -> list[bool]:
        house = House(3)
        await house.upstream.close()
        return [server.is_closed for server in house.servers]

    assert asyncio.run(run()) == [True] * 3


@pytest.mark.parametrize("urls", [[], ["http://a/v1", "ftp://b/v1"]])
def test_upstreams_that_cannot_be_called_are_refused_at_once(urls: list[str]) -> None:
    with pytest.raises(ValueError, match="upstream"):
        open_upstream(urls, **SETTINGS)
