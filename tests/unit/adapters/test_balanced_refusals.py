"""Circuit breakers of the models of a server: a failing model holds up no other model and no other server."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.domain.retry import NO_TRIES, Tries, Trouble
from app.domain.verdict import mark_failure
from app.services.ports import Answer
from tests.unit.adapters.balanced_house import GOOD, LIMITED, REFUSED, House, http, settle

SUSPECT = Tries(1, 1, is_suspect=True)
BAD_REQUEST = Answer(Trouble.FINAL, 400, "r", b"{}")


async def refuse(house: House, model: str, *answers: Answer) -> None:
    """Have the only server of a house end calls for a model with these answers."""
    for answer in answers:
        calls = await house.begin(1, model)
        assert house.servers[0].waiting, "The call was withheld."
        house.servers[0].waiting[-1].set_result(answer)
        await asyncio.gather(*calls)


def test_one_url_has_a_circuit_too() -> None:
    async def run() -> None:
        house = House(1)
        await refuse(house, "away", *[http(503)] * 3)

        answer = await house.call("away")

        assert answer.trouble is Trouble.WITHHELD
        assert house.counts == [3]

    asyncio.run(run())


def test_a_model_that_is_away_holds_up_no_other_model_of_its_server() -> None:
    async def run() -> None:
        house = House(1)
        await refuse(house, "away", *[http(503)] * 3)
        house.servers[0].says = GOOD

        answers = [await house.call("there") for _ in range(9)]

        assert {answer.trouble for answer in answers} == {Trouble.NONE}
        assert (await house.call("away")).trouble is Trouble.WITHHELD

    asyncio.run(run())


def test_a_server_that_nobody_reaches_is_away_for_all_its_models() -> None:
    async def run() -> None:
        house = House(1)
        await refuse(house, "one", REFUSED)

        assert (await house.call("other")).trouble is Trouble.WITHHELD

    asyncio.run(run())


def test_a_model_that_is_away_on_one_server_is_called_on_the_others() -> None:
    async def run() -> None:
        house = House(2)
        calls = await house.begin(6, "m")
        for _ in range(3):
            house.servers[0].end(http(503))
            house.servers[1].end(GOOD)
        await asyncio.gather(*calls)

        await house.begin(4, "m")

        assert house.in_flight == [0, 4]

    asyncio.run(run())


def test_failures_fewer_than_the_calls_in_flight_open_nothing() -> None:
    async def run() -> None:
        house = House(1)
        await house.begin(10, "m")
        await refuse(house, "m", *[http(500)] * 5)
        house.servers[0].end(GOOD)
        await settle()

        await refuse(house, "m", *[http(500)] * 5)

        assert house.left_alone == []

    asyncio.run(run())


def test_failures_of_a_line_that_was_convicted_open_nothing() -> None:
    async def run() -> None:
        house = House(1)
        house.servers[0].says = http(503)

        for _ in range(10):
            await house.call("m", SUSPECT)

        assert house.left_alone == []

    asyncio.run(run())


def test_a_line_that_fails_again_and_again_counts_once() -> None:
    async def run() -> None:
        house = House(1)
        house.servers[0].says = http(500)
        before = NO_TRIES
        for _ in range(10):
            answer = await house.call("m", before)
            assert answer.circuit is not None
            before = before.after(answer.trouble, mark_failure(answer.circuit, house.clock.now()))

        assert house.left_alone == []

    asyncio.run(run())


def test_a_probe_that_hangs_is_followed_by_another() -> None:
    async def run() -> None:
        house = House(1)
        await refuse(house, "m", *[http(503)] * 3)
        house.clock.advance(1.0)
        await house.begin(1, "m")
        house.clock.advance(29.0)
        between = await house.call("m")
        house.clock.advance(1.0)

        await house.begin(1, "m")

        assert between.trouble is Trouble.WITHHELD
        assert house.in_flight == [2]

    asyncio.run(run())


@pytest.mark.parametrize("answer", [GOOD, LIMITED, BAD_REQUEST], ids=["200", "429", "400"])
def test_any_answer_to_a_probe_that_is_no_failure_closes_the_circuit(answer: Answer) -> None:
    async def run() -> None:
        house = House(1)
        await refuse(house, "m", *[http(503)] * 3)
        house.clock.advance(1.0)

        with capture_logs() as said:
            await refuse(house, "m", answer)

        assert house.left_alone == []
        assert [(line["event"], line["model"], line["away_s"]) for line in said] == [("upstream.back", "m", 1.0)]

    asyncio.run(run())


def test_a_call_from_before_the_failures_that_is_answered_has_the_next_probe_go_at_once() -> None:
    async def run() -> None:
        house = House(1)
        (early,) = await house.begin(1, "m")
        await refuse(house, "m", *[http(503)] * 3)

        house.servers[0].end(GOOD)
        await early
        await house.begin(1, "m")

        assert house.in_flight == [1]

    asyncio.run(run())


def test_what_fails_is_told_with_its_server_its_model_and_since_when() -> None:
    async def run() -> None:
        house = House(1)
        await refuse(house, "m", http(503))
        before = house.upstream.failing()
        house.clock.advance(2.0)
        await refuse(house, "m", *[http(503)] * 2)

        assert before == []
        assert house.upstream.failing() == [("http://0/v1", "m", "The upstream answered 503.", 2.0)]

    asyncio.run(run())


def test_the_models_that_callers_name_take_no_memory_without_end() -> None:
    async def run() -> None:
        house = House(1)
        await refuse(house, "away", *[http(503)] * 3)
        house.servers[0].says = GOOD

        for number in range(2_500):
            await house.upstream.call("/v1/x", b'{"model":"%d"}' % number, 1.0)

        assert len(house.upstream._servers[0].models) <= 1_000
        assert (await house.call("away")).trouble is Trouble.WITHHELD

    asyncio.run(run())
