"""Check calls: after failed probes, and before the call that may be a line's last."""

import asyncio
import json
from collections.abc import Callable

import pytest

from app.domain.retry import Trouble
from app.services.ports import Answer, Caller
from tests.unit.adapters.balanced_house import BROKEN, GOOD, LIMITED, REFUSED, SILENT, House, http, settle

CHAT = "/v1/chat/completions"
LIMIT_MET = Answer(Trouble.FINAL, error=("request_timeout", "No byte came from the upstream for 0.2 s."))
BAD_REQUEST = Answer(Trouble.FINAL, 400, "r", b"{}")


async def open_circuit(house: House) -> None:
    for _ in range(3):
        (call,) = await house.begin(1, "m", endpoint=CHAT)
        house.servers[0].end(http(503))
        await call
    house.clock.advance(1.0)


async def probe(house: House, answer: Answer, *checks: Answer) -> Answer:
    """Return the answer to a line's probe; the server ends the line's call with `answer`, and then the check calls."""
    (call,) = await house.begin(1, "m", endpoint=CHAT)
    for each in (answer, *checks):
        assert house.servers[0].waiting, "no call was made"
        house.servers[0].end(each)
        await settle()
    assert call.done()
    return await call


@pytest.mark.parametrize("failure", [http(503), http(500), BROKEN], ids=["503", "500", "reset"])
def test_a_line_whose_probe_fails_while_a_check_call_is_answered_is_a_suspect(failure: Answer) -> None:
    async def run() -> None:
        house = House(1)
        await open_circuit(house)

        answer = await probe(house, failure, GOOD)

        assert answer.was_well_after
        assert (answer.trouble, answer.status) == (failure.trouble, failure.status)
        (following,) = await house.begin(1, "m", endpoint=CHAT)
        assert not following.done()

    asyncio.run(run())


@pytest.mark.parametrize("check", [http(503), LIMITED, REFUSED, SILENT, BAD_REQUEST], ids=str)
def test_a_check_call_that_is_not_answered_changes_nothing(check: Answer) -> None:
    async def run() -> None:
        house = House(1)
        await open_circuit(house)

        answer = await probe(house, http(503), check)

        assert not answer.was_well_after
        (following,) = await house.begin(1, "m", endpoint=CHAT)
        assert (await following).trouble is Trouble.WITHHELD

    asyncio.run(run())


@pytest.mark.parametrize("answer", [GOOD, LIMITED, REFUSED, SILENT, BAD_REQUEST], ids=str)
def test_no_check_call_follows_a_probe_that_says_all(answer: Answer) -> None:
    async def run() -> None:
        house = House(1)
        await open_circuit(house)

        await probe(house, answer)

        assert house.counts == [4]

    asyncio.run(run())


def test_three_bad_lines_do_not_keep_a_server_from_a_fourth_line() -> None:
    async def run() -> None:
        house = House(1)
        await open_circuit(house)

        for _ in range(3):
            await probe(house, http(500), GOOD)

        assert house.left_alone == []

    asyncio.run(run())


def test_a_check_call_is_the_smallest_request_for_the_model_of_the_line() -> None:
    async def run() -> None:
        house = House(1)
        await open_circuit(house)

        await probe(house, http(500), GOOD)

        *_, (endpoint, body) = house.servers[0].asked
        request = json.loads(body)
        assert endpoint == CHAT
        assert (request["model"], request["max_tokens"]) == ("m", 1)

    asyncio.run(run())


def test_a_model_that_refuses_max_tokens_is_asked_by_the_other_name() -> None:
    async def run() -> None:
        house = House(1)
        await open_circuit(house)
        refusal = Answer(Trouble.FINAL, 400, "r", b'{"error":{"message":"Use max_completion_tokens."}}')

        answer = await probe(house, http(500), refusal, GOOD)

        assert answer.was_well_after
        assert json.loads(house.servers[0].asked[-1][1])["max_completion_tokens"] == 1

    asyncio.run(run())


NOT_ANSWERED = [http(503), http(503, retry_after_s=60.0), LIMITED, REFUSED, SILENT, LIMIT_MET, BAD_REQUEST]


def last_call(house: House, may_send: Callable[[], bool] = lambda: True) -> asyncio.Task[Answer]:
    """Begin a call that may be the line's last."""
    caller = Caller(may_send=may_send, wants_check=True)
    return asyncio.ensure_future(house.upstream.call(CHAT, b'{"model":"m","n":1}', 60.0, caller))


def test_a_check_call_comes_before_the_last_call_of_a_line() -> None:
    async def run() -> None:
        house = House(1)
        call = last_call(house)
        await settle()
        house.servers[0].end(GOOD)
        await settle()
        house.servers[0].end(http(500))

        answer = await call

        assert (answer.status, answer.was_well_before) == (500, True)
        assert [b"max_tokens" in body for _, body in house.servers[0].asked] == [True, False]

    asyncio.run(run())


@pytest.mark.parametrize("check", NOT_ANSWERED, ids=str)
def test_the_last_call_of_a_line_is_withheld_if_the_check_call_is_not_answered(check: Answer) -> None:
    async def run() -> None:
        house = House(1)
        call = last_call(house)
        await settle()
        house.servers[0].end(check)

        answer = await call

        assert answer.trouble is Trouble.WITHHELD
        assert answer.retry_after_s == check.retry_after_s
        assert house.counts == [1]

    asyncio.run(run())


def test_the_last_call_goes_to_the_server_that_answered_the_check_call() -> None:
    async def run() -> None:
        house = House(2)
        await house.begin(1)
        (busy,) = [number for number, server in enumerate(house.servers) if server.waiting]
        call = last_call(house)
        await settle()
        idle = house.servers[1 - busy]
        # The other server would be the better choice by now.
        house.servers[busy].end(GOOD)
        idle.end(GOOD)
        await settle()

        assert len(idle.asked) == 2
        idle.end(GOOD)
        await call

    asyncio.run(run())


def test_a_line_that_was_lost_during_its_check_call_is_not_called() -> None:
    async def run() -> None:
        house = House(1)
        is_ours = True
        call = last_call(house, lambda: is_ours)
        await settle()
        is_ours = False
        house.servers[0].end(GOOD)
        await settle()

        assert house.counts == [1]
        assert (await call).trouble is Trouble.WITHHELD

    asyncio.run(run())


def test_failed_check_calls_open_the_circuit_breaker() -> None:
    async def run() -> None:
        house = House(1)
        house.servers[0].says = http(503)

        for _ in range(3):
            await last_call(house)

        assert house.left_alone == [0]

    asyncio.run(run())


def test_a_probe_that_may_be_the_last_call_is_checked_afterwards_only() -> None:
    async def run() -> None:
        house = House(1)
        await open_circuit(house)
        call = last_call(house)
        await settle()
        house.servers[0].end(http(500))
        await settle()
        house.servers[0].end(GOOD)

        answer = await call

        assert (answer.was_well_before, answer.was_well_after) == (False, True)

    asyncio.run(run())


def test_a_check_call_and_the_call_after_it_share_the_time_of_one_call() -> None:
    async def run() -> None:
        house = House(1)
        call = last_call(house)
        await settle()
        house.clock.advance(45.0)
        house.servers[0].end(GOOD)
        await settle()

        assert house.servers[0].timeouts_s == [pytest.approx(60.0), pytest.approx(15.0)]
        house.servers[0].end(GOOD)
        await call

    asyncio.run(run())
