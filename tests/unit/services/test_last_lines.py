"""Whose fault the failures of a batch's last lines are, with no other line left to compare with."""

from collections import Counter

import pytest

from app.services.ports import Answer
from tests.unit.services.blame_house import (
    GOOD,
    HTML,
    MINUTE_S,
    NOT_FOUND_PAGE,
    OUTAGE_ANSWERS,
    OUTAGE_S,
    RESET,
    SPENT_S,
    Open,
    http,
    names,
    poison,
    said,
)


@pytest.mark.parametrize("answer", [http(401), http(500), HTML, RESET, NOT_FOUND_PAGE], ids=said)
@pytest.mark.parametrize("bad", [1, 2])
@pytest.mark.parametrize("max_tries", [1, 5])
def test_the_last_lines_end_soon_where_all_others_were_answered_a_moment_before(
    open_house: Open, answer: Answer, bad: int, max_tries: int
) -> None:
    poisoned = names(bad, "poison")
    house = open_house(poison(answer, *poisoned), max_tries=max_tries)

    house.run_all(house.lines(*names(20)), house.lines(*poisoned, start_s=5.0))

    assert house.failed() == dict.fromkeys(poisoned, answer.status)
    assert max(house.ended_at.values()) < 5 + MINUTE_S


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_last_line_that_is_refused_ends_after_a_quarter_of_an_hour(open_house: Open, status: int) -> None:
    house = open_house(poison(http(status), "poison"))

    house.run_all(house.lines(*names(20)), house.lines("poison", start_s=5.0))

    assert house.failed() == {"poison": status}
    assert SPENT_S <= house.ended_at["poison"] < SPENT_S + 10 * MINUTE_S


@pytest.mark.parametrize("answer", OUTAGE_ANSWERS, ids=said)
@pytest.mark.parametrize("left", [1, 2, 3, 10])
def test_an_outage_as_the_last_lines_are_called_loses_none(open_house: Open, answer: Answer, left: int) -> None:
    house = open_house(lambda _, now: answer if 5 <= now < 5 + OUTAGE_S else GOOD)

    house.run_all(house.lines(*names(20)), house.lines(*names(left, "last"), start_s=5.0))

    assert house.failed() == {}
    assert len(house.results) == 20 + left


@pytest.mark.parametrize("answer", OUTAGE_ANSWERS, ids=said)
@pytest.mark.parametrize("start_s", [0.1, 0.3, 0.49, 0.51, 0.7])
def test_an_outage_that_begins_amid_the_last_lines_loses_none(open_house: Open, answer: Answer, start_s: float) -> None:
    house = open_house(lambda _, now: answer if start_s <= now < start_s + OUTAGE_S else GOOD)

    house.run(*names(40))

    assert house.failed() == {}
    assert len(house.results) == 40


@pytest.mark.parametrize("answer", [http(401), http(500), HTML, RESET, NOT_FOUND_PAGE], ids=said)
@pytest.mark.parametrize("bad", [1, 3, 4])
def test_fewer_than_half_of_lines_that_are_all_called_at_once_end_soon_if_they_are_bad(
    open_house: Open, answer: Answer, bad: int
) -> None:
    poisoned = names(bad, "poison")
    house = open_house(poison(answer, *poisoned))

    house.run(*poisoned, *names(10 - bad))

    assert house.failed() == dict.fromkeys(poisoned, answer.status)
    assert max(house.ended_at.values()) < MINUTE_S


@pytest.mark.parametrize("answer", [http(401), http(403), http(503)], ids=said)
def test_an_answer_of_long_ago_says_nothing_of_an_outage(open_house: Open, answer: Answer) -> None:
    house = open_house(lambda _, now: answer if 120 <= now < 3_600 else GOOD)

    house.run_all(house.lines(*names(20)), house.lines("last", start_s=120.0))

    assert house.failed() == {}


def test_lines_that_always_fail_end_within_a_minute_among_others_that_fail_at_first(open_house: Open) -> None:
    at_first = {"first-500": http(500), "first-429": http(429), "first-reset": RESET}
    calls: Counter[str] = Counter()

    def behave(name: str, now: float) -> Answer:
        calls[name] += 1
        kind = name.rpartition("-")[0]
        if kind in at_first and calls[name] <= 2:
            return at_first[kind]
        return {"garbled": HTML, "wrong": http(400)}.get(kind, GOOD)

    kinds = ["good", "first-500", "first-429", "first-reset", "good", "wrong", "wrong", "garbled"]
    house = open_house(behave, latency_s=0.005, concurrency=8, max_tries=3)

    house.run(*(f"{kinds[number % len(kinds)]}-{number}" for number in range(104)))

    failed = house.failed()
    assert {name.rpartition("-")[0]: failed[name] for name in failed} == {"garbled": 0, "wrong": 400}
    assert len(failed) == 3 * 13
    assert max(house.ended_at.values()) < MINUTE_S
