"""Check calls after failed probes: a line at fault keeps no server from other lines."""

import asyncio
import json

import pytest

from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.adapters.balanced_house import BROKEN, GOOD, LIMITED, REFUSED, SILENT, House, http, settle

CHAT = "/v1/chat/completions"
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

        assert answer.is_suspect
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

        assert not answer.is_suspect
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

        assert answer.is_suspect
        assert json.loads(house.servers[0].asked[-1][1])["max_completion_tokens"] == 1

    asyncio.run(run())
