"""Lines that fail with no other line to compare with: a check call tells bad lines from an outage."""

import pytest

from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.services.blame_house import (
    GOOD,
    HTML,
    MINUTE_S,
    NOT_FOUND_PAGE,
    OUTAGE_ANSWERS,
    REFUSED,
    RESET,
    SPENT_S,
    Open,
    check_of,
    http,
    names,
    poison,
    said,
)

# Too large to be kept during the pause before the next call.
LARGE = Answer(Trouble.FLAKY, 500, "r", b'{"error":{"message":"%s"}}' % (b"x" * 20_000))


@pytest.mark.parametrize("answer", [http(401), http(500), LARGE, HTML, RESET, NOT_FOUND_PAGE], ids=said)
@pytest.mark.parametrize("count", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("max_tries", [1, 5])
def test_lines_that_always_fail_end_soon_though_no_other_line_is_there(
    open_house: Open, answer: Answer, count: int, max_tries: int
) -> None:
    bad = names(count)
    house = open_house(poison(answer, *bad), max_tries=max_tries)

    house.run(*bad)

    assert house.failed() == dict.fromkeys(bad, answer.status)
    assert max(house.ended_at.values()) < (2 if count < 100 else 5) * MINUTE_S


@pytest.mark.parametrize("status", [502, 503, 504, 529])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_lines_that_are_always_refused_end_after_a_quarter_of_an_hour_though_no_other_line_is_there(
    open_house: Open, status: int, count: int
) -> None:
    bad = names(count)
    house = open_house(poison(http(status), *bad))

    house.run(*bad)

    assert house.failed() == dict.fromkeys(bad, status)
    assert min(house.ended_at.values()) >= SPENT_S
    assert max(house.ended_at.values()) < SPENT_S + 10 * MINUTE_S


@pytest.mark.parametrize("answer", OUTAGE_ANSWERS, ids=said)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("max_tries", [1, 5])
def test_an_outage_of_hours_loses_no_line_though_no_other_line_is_there(
    open_house: Open, answer: Answer, count: int, max_tries: int
) -> None:
    house = open_house(lambda _, now: answer if now < 7_200 else GOOD, max_tries=max_tries)

    house.run(*names(count))

    assert house.failed() == {}
    assert len(house.results) == count
    # Lines and check calls come less and less often.
    assert house.server.calls.total() < 7_200


@pytest.mark.parametrize("answer", [http(500), http(503), http(401), RESET], ids=said)
@pytest.mark.parametrize("count", [1, 2, 3, 10])
@pytest.mark.parametrize("down_s", [25, 40, 300])
def test_one_long_outage_after_the_other_loses_none_of_the_last_lines(
    open_house: Open, answer: Answer, count: int, down_s: int
) -> None:
    house = open_house(lambda _, now: answer if now % (down_s + 30) < down_s else GOOD, latency_s=5.0)

    house.run(*names(count))

    assert house.failed() == {}


@pytest.mark.parametrize("answer", [http(401), http(503)], ids=said)
@pytest.mark.parametrize("count", [1, 3])
def test_without_a_check_call_lines_that_are_turned_away_wait_for_as_long_as_their_window(
    open_house: Open, answer: Answer, count: int
) -> None:
    house = open_house(lambda _, now: answer if now < 7_200 else GOOD, endpoint="/v1/rerank")

    house.run(*names(count))

    assert house.failed() == {}


@pytest.mark.parametrize("answer", [http(500), LARGE], ids=["500", "large"])
@pytest.mark.parametrize("count", [1, 2])
def test_without_a_check_call_a_line_or_two_that_always_fail_end_after_a_quarter_of_an_hour(
    open_house: Open, answer: Answer, count: int
) -> None:
    house = open_house(lambda _, now: answer, endpoint="/v1/rerank")

    house.run(*names(count))

    assert house.failed() == dict.fromkeys(names(count), 500)
    assert SPENT_S <= max(house.ended_at.values()) < SPENT_S + 10 * MINUTE_S


CHECK_REFUSED = [http(400), http(429, retry_after_s=60.0), http(429)]


@pytest.mark.parametrize("checked", CHECK_REFUSED, ids=["400", "429 with Retry-After", "429"])
@pytest.mark.parametrize("answer", [http(500), http(401)], ids=said)
@pytest.mark.parametrize("max_tries", [1, 5])
def test_an_outage_in_which_check_calls_are_refused_loses_no_line_and_costs_few_calls(
    open_house: Open, checked: Answer, answer: Answer, max_tries: int
) -> None:
    def behave(name: str, now: float) -> Answer:
        return GOOD if now >= 7_200 else checked if name == check_of("m") else answer

    house = open_house(behave, max_tries=max_tries)

    house.run("only")

    assert house.failed() == {}
    assert house.server.calls.total() < 7_200 / 2


@pytest.mark.parametrize("answer", [http(401), http(500), http(503), HTML, RESET, REFUSED], ids=said)
@pytest.mark.parametrize("count", [1, 2, 10])
@pytest.mark.parametrize("max_tries", [3, 5])
def test_an_outage_and_restarts_amid_long_calls_lose_no_line(
    open_house: Open, answer: Answer, count: int, max_tries: int
) -> None:
    """The server answers each check call, and is not up for as long as a line's call takes."""
    house = open_house(
        lambda _, now: answer if now < 17 else GOOD, latency_s=12.0, cuts_s=[23.0, 31.0], max_tries=max_tries
    )

    house.run(*names(count))

    assert house.failed() == {}


def test_hundreds_of_bad_lines_end_within_minutes(open_house: Open) -> None:
    bad = names(400)
    house = open_house(poison(http(500), *bad))

    house.run(*bad)

    assert house.failed() == dict.fromkeys(bad, 500)
    assert max(house.ended_at.values()) < 5 * MINUTE_S
