"""Whose fault an answer is, judged by what the same server answers other lines at that time."""

import random

import pytest

from app.services.ports import Answer
from tests.unit.services.blame_house import (
    GOOD,
    HTML,
    MINUTE_S,
    NOT_FOUND_PAGE,
    OUTAGE_S,
    REFUSED,
    RESET,
    SPENT_S,
    UNREACHED,
    Open,
    check_of,
    http,
    names,
    poison,
    said,
)

ALL_OUTAGE_ANSWERS = [
    *(http(status) for status in (401, 402, 403, 429, 500, 501, 502, 503, 504, 520, 521, 522, 529, 530)),
    NOT_FOUND_PAGE,
    HTML,
    REFUSED,
    RESET,
]


@pytest.mark.parametrize("answer", ALL_OUTAGE_ANSWERS, ids=said)
@pytest.mark.parametrize("begins_s", [0.0, 3.0], ids=["from the start", "amid the batch"])
def test_an_outage_loses_no_line_whatever_it_is_answered_with(
    open_house: Open, answer: Answer, begins_s: float
) -> None:
    house = open_house(lambda _, now: answer if begins_s <= now < begins_s + OUTAGE_S else GOOD)

    house.run(*names(500))

    assert len(house.results) == 500
    assert house.failed() == {}
    assert max(house.ended_at.values()) < begins_s + OUTAGE_S + 60


@pytest.mark.parametrize("answer", [http(500), http(503), http(401), RESET], ids=said)
def test_one_outage_after_the_other_loses_no_line(open_house: Open, answer: Answer) -> None:
    house = open_house(lambda _, now: answer if now % 10 < 5 else GOOD)

    house.run(*names(2_000))

    assert house.failed() == {}


def test_an_outage_costs_few_calls(open_house: Open) -> None:
    house = open_house(lambda _, now: http(500) if now < 600 else GOOD)

    house.run(*names(500))

    # The calls of the moment before the circuit breaker opens, and the probes, with a check call each.
    assert house.server.calls.total() < 500 + 2 * 16 + 2 * 30


@pytest.mark.parametrize("answer", [http(401), http(403), NOT_FOUND_PAGE, http(500), http(503)], ids=said)
@pytest.mark.parametrize("count", [3, 100])
def test_a_fault_that_stays_burns_no_line_and_is_told(open_house: Open, answer: Answer, count: int) -> None:
    house = open_house(lambda _, now: answer)

    house.run(*names(count), window_s=3_600)

    assert house.results == {}
    assert all(tries.counted == 0 for tries in house.tries.values())
    (failing,) = house.failing()
    assert failing.error == f"The upstream answered {answer.status}."


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_single_line_that_is_denied_waits_for_as_long_as_its_window(open_house: Open, status: int) -> None:
    house = open_house(lambda _, now: http(status) if now < 3_600 else GOOD)

    house.run("only")

    assert house.failed() == {}


@pytest.mark.parametrize("status", [502, 503, 504, 429, 529])
def test_a_line_that_is_always_refused_ends_after_twenty_tries_in_a_quarter_of_an_hour(
    open_house: Open, status: int
) -> None:
    house = open_house(poison(http(status), "poison"))

    house.run("poison", *names(200))

    assert house.failed() == {"poison": status}
    assert house.server.calls["poison"] >= 20
    assert SPENT_S <= house.ended_at["poison"] < SPENT_S + 10 * MINUTE_S


def test_it_ends_so_beside_a_batch_that_goes_on(open_house: Open) -> None:
    house = open_house(poison(http(503), "poison"), concurrency=4)

    house.run("poison", *names(1_500))

    assert house.failed() == {"poison": 503}
    assert house.ended_at["poison"] < SPENT_S + 10 * MINUTE_S


@pytest.mark.parametrize("answer", [http(500), http(520), HTML, RESET, http(409)], ids=said)
def test_a_line_that_always_fails_among_others_that_are_answered_ends_after_its_tries(
    open_house: Open, answer: Answer
) -> None:
    house = open_house(poison(answer, "poison"))

    house.run("poison", *names(200))

    assert house.failed() == {"poison": answer.status}
    # A failure that no other line was called after uses no try.
    assert house.server.calls["poison"] in (5, 6)


@pytest.mark.parametrize("max_tries", [1, 2, 3])
def test_a_line_has_as_many_tries_as_the_setting_says(open_house: Open, max_tries: int) -> None:
    house = open_house(poison(http(500), "poison"), max_tries=max_tries)

    house.run("poison", *names(50))

    assert house.server.calls["poison"] in (max_tries, max_tries + 1)


@pytest.mark.parametrize("answer", [http(401), http(403), NOT_FOUND_PAGE], ids=said)
def test_a_line_that_is_denied_while_others_are_answered_ends_after_a_few_looks(
    open_house: Open, answer: Answer
) -> None:
    house = open_house(poison(answer, "denied"))

    house.run("denied", *names(200))

    assert house.failed() == {"denied": answer.status}
    assert house.server.calls["denied"] in (3, 4)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_an_answer_that_names_the_request_ends_its_line_at_once(open_house: Open, status: int) -> None:
    house = open_house(lambda _, now: http(status))

    house.run(*names(20))

    assert set(house.failed().values()) == {status}
    assert house.server.calls.total() == 20


@pytest.mark.parametrize("status", [500, 503])
def test_several_lines_that_always_fail_end_though_they_alone_are_left(open_house: Open, status: int) -> None:
    bad = names(10, "poison")
    house = open_house(poison(http(status), *bad))

    house.run(*bad, *names(190))

    assert house.failed() == dict.fromkeys(bad, status)
    assert max(house.ended_at.values()) < SPENT_S + 10 * MINUTE_S


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_single_line_that_is_refused_waits_for_as_long_as_its_window(open_house: Open, status: int) -> None:
    house = open_house(lambda _, now: http(status) if now < 7_200 else GOOD)

    house.run("only")

    assert house.failed() == {}


def test_lines_refused_for_their_own_sake_hide_no_outage(open_house: Open) -> None:
    house = open_house(lambda name, now: http(400) if name == "refused" else http(500) if now < 3_600 else GOOD)

    house.run_all(house.lines(*names(5)), house.lines("refused", start_s=0.01))

    assert house.failed() == {"refused": 400}


@pytest.mark.parametrize("answer", [REFUSED, UNREACHED], ids=["refused", "unreached"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_outage_of_connections_loses_no_line_that_had_failed_before(
    open_house: Open, answer: Answer, count: int
) -> None:
    unlucky = names(count, "unlucky")

    def behave(name: str, now: float) -> Answer:
        if now < 3:
            return http(500) if name in unlucky else GOOD
        return answer if now < 3_600 else GOOD

    house = open_house(behave, max_tries=10)

    # Others are answered while these fail, and have ended before the outage.
    house.run(*unlucky, *names(100))

    assert all(house.tries[name].is_suspect for name in unlucky)
    assert max(house.ended_at.values()) > 3_600
    assert house.failed() == {}


def test_a_server_that_limits_its_callers_fails_no_line(open_house: Open) -> None:
    house = open_house(lambda name, now: http(429, retry_after_s=30.0) if name == "limited" and now < 3_600 else GOOD)

    house.run("limited", *names(5))

    assert house.failed() == {}


def test_a_server_that_fails_every_second_call_loses_no_line(open_house: Open) -> None:
    draw = random.Random(3)
    house = open_house(lambda _, now: http(500) if draw.random() < 0.5 else GOOD)

    house.run(*names(2_000))

    assert house.failed() == {}


def test_a_server_that_refuses_most_calls_by_429_loses_no_line(open_house: Open) -> None:
    draw = random.Random(3)
    house = open_house(lambda _, now: http(429) if draw.random() < 0.75 else GOOD)

    house.run(*names(1_000))

    assert house.failed() == {}


def test_a_model_that_is_away_loses_no_line_and_slows_no_other(open_house: Open) -> None:
    def is_of_big(name: str) -> bool:
        return name.startswith("away") or name == check_of("big")

    house = open_house(lambda name, now: http(503) if is_of_big(name) and now < 3_600 else GOOD)

    house.run_all(house.lines(*names(300, "away"), model="big"), house.lines(*names(300), model="small"))

    assert house.failed() == {}
    assert max(at for name, at in house.ended_at.items() if name.startswith("line")) < 300 / 16 * 0.25 + 5


def test_a_line_that_always_fails_is_not_the_only_probe(open_house: Open) -> None:
    house = open_house(lambda name, now: http(500) if name == "poison" or now < 30 else GOOD)

    house.run("poison", "other", "third", "fourth")

    assert house.failed() == {"poison": 500}
    assert max(house.ended_at[name] for name in ("other", "third", "fourth")) < 120
