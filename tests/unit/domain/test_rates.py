"""The limit of calls and tokens a minute, by numbers that can be checked by hand."""

import math

import pytest

from app.domain.rates import BURST_S, FIRST_ESTIMATE_TOKENS, RateLimit

NOW = 1_700_000_000.0
# A call each second, 1,000 tokens each second.
PER_MINUTE = 60.0
TOKENS_PER_MINUTE = 60_000.0


def begun_at_once(limit: RateLimit, now: float, most: int = 1_000) -> int:
    """Begin as many calls as may begin at this instant; return how many that were."""
    for count in range(most):
        if limit.wait_s(now):
            return count
        limit.begin(now)
    return most


def used_once(limit: RateLimit, tokens: int | None, now: float = NOW) -> None:
    limit.end(limit.begin(now), tokens, now)


def test_without_limits_calls_always_begin() -> None:
    assert begun_at_once(RateLimit(None, None), NOW) == 1_000


def test_the_first_call_begins_at_once_and_the_next_when_the_pace_allows_it() -> None:
    limit = RateLimit(PER_MINUTE, None)

    begun = begun_at_once(limit, NOW)

    assert begun == 1
    assert limit.wait_s(NOW) == pytest.approx(1.0)
    assert limit.wait_s(NOW + 0.75) == pytest.approx(0.25)
    assert begun_at_once(limit, NOW + 1.0) == 1


def test_after_a_rest_as_many_begin_as_the_burst_holds_and_one_more() -> None:
    limit = RateLimit(PER_MINUTE, None)
    limit.wait_s(NOW)

    assert begun_at_once(limit, NOW + 3_600) == BURST_S + 1


def test_a_call_that_takes_more_than_a_minute_allows_begins_and_its_debt_is_waited_out() -> None:
    limit = RateLimit(None, TOKENS_PER_MINUTE)

    used_once(limit, 90_000)

    assert limit.wait_s(NOW) == pytest.approx(90.0)
    assert limit.wait_s(NOW + 90.1) == 0.0


def test_the_limit_that_is_reached_first_holds() -> None:
    limit = RateLimit(PER_MINUTE, TOKENS_PER_MINUTE)

    used_once(limit, 5_000)
    of_tokens = limit.wait_s(NOW)
    limit = RateLimit(PER_MINUTE, TOKENS_PER_MINUTE)
    used_once(limit, 100)

    assert of_tokens == pytest.approx(5.0)
    assert limit.wait_s(NOW) == pytest.approx(1.0)


def test_a_call_is_charged_a_guess_at_first_and_then_what_calls_took_lately() -> None:
    limit = RateLimit(None, TOKENS_PER_MINUTE)

    first = limit.begin(NOW)
    limit.end(first, 300, NOW)
    limit.end(limit.begin(NOW), 500, NOW)

    assert first.tokens == FIRST_ESTIMATE_TOKENS
    assert limit.begin(NOW).tokens == pytest.approx(400)


def test_the_estimate_follows_calls_that_become_longer() -> None:
    limit = RateLimit(None, TOKENS_PER_MINUTE)
    for _ in range(10_000):
        used_once(limit, 100)

    for _ in range(300):
        used_once(limit, 1_000)

    assert limit.estimate_tokens == pytest.approx(955, abs=10)


def test_what_a_call_was_charged_too_much_is_given_back_when_it_ends() -> None:
    limit = RateLimit(None, TOKENS_PER_MINUTE)
    ticket = limit.begin(NOW)
    before = limit.wait_s(NOW)

    limit.end(ticket, 200, NOW)

    assert (before, limit.wait_s(NOW)) == (pytest.approx(1.0), pytest.approx(0.2))


def test_a_call_that_nobody_counted_keeps_its_charge_and_teaches_nothing() -> None:
    limit = RateLimit(None, TOKENS_PER_MINUTE)

    used_once(limit, None)

    assert limit.wait_s(NOW) == pytest.approx(1.0)
    assert limit.estimate_tokens == FIRST_ESTIMATE_TOKENS


def test_what_was_given_back_above_the_burst_is_lost_again_where_nobody_uses_it() -> None:
    limit = RateLimit(None, TOKENS_PER_MINUTE)
    tickets = [limit.begin(NOW) for _ in range(30)]
    limit.wait_s(NOW + 30)
    for ticket in tickets:
        limit.end(ticket, 100, NOW + 30)

    # The balance is 27,000 tokens, calls are charged 100, and the burst holds 3,000.
    assert begun_at_once(limit, NOW + 30 + 3_600) == 30 + 1


def test_what_was_given_back_is_there_for_who_comes_a_moment_later() -> None:
    limit = RateLimit(None, TOKENS_PER_MINUTE)
    tickets = [limit.begin(NOW) for _ in range(30)]
    limit.wait_s(NOW + 30)
    for ticket in tickets:
        limit.end(ticket, 100, NOW + 30)

    limit.set_share(1.0, NOW + 31)

    # Of 27,000 tokens above nothing a second has taken 1,000.
    assert begun_at_once(limit, NOW + 31) == 260 + 1


def test_a_process_with_a_part_of_the_limit_begins_so_many_fewer() -> None:
    limit = RateLimit(PER_MINUTE, None)
    limit.set_share(0.25, NOW)

    limit.begin(NOW)

    assert limit.wait_s(NOW) == pytest.approx(4.0)


def test_a_debt_stays_when_the_share_changes_and_is_paid_at_the_new_pace() -> None:
    limit = RateLimit(None, TOKENS_PER_MINUTE)
    used_once(limit, 10_000)

    limit.set_share(0.5, NOW + 4)

    assert limit.wait_s(NOW + 4) == pytest.approx(12.0)


def test_time_before_a_change_of_the_share_counts_by_the_old_one() -> None:
    limit = RateLimit(PER_MINUTE, None)
    limit.set_share(0.01, NOW)
    limit.begin(NOW)

    limit.set_share(1.0, NOW + 50)

    assert limit.wait_s(NOW + 50) == pytest.approx(0.5)


def test_a_smaller_share_holds_a_smaller_burst() -> None:
    limit = RateLimit(PER_MINUTE, None)
    limit.wait_s(NOW)

    limit.set_share(1 / 3, NOW + 3_600)

    assert begun_at_once(limit, NOW + 3_600) == 2


def test_shares_that_go_up_and_down_bring_nothing() -> None:
    limit = RateLimit(PER_MINUTE, None)
    limit.begin(NOW)

    for number in range(1_000):
        limit.set_share(1.0 if number % 2 else 0.001, NOW)

    assert limit.wait_s(NOW) == pytest.approx(1.0, rel=1e-6)


def test_an_instant_that_comes_late_counts_for_nothing() -> None:
    limit = RateLimit(PER_MINUTE, None)
    limit.begin(NOW)

    for _ in range(100):
        limit.wait_s(NOW + 0.5)
        limit.wait_s(NOW - 100)

    assert limit.wait_s(NOW) == pytest.approx(0.5)


def test_who_waits_as_long_as_it_says_gets_on() -> None:
    limit = RateLimit(7_001.0, None)
    now = NOW
    looks = 0

    for _ in range(10_000):
        while wait_s := limit.wait_s(now):
            now += wait_s
            looks += 1
        limit.begin(now)

    assert looks <= 2 * 10_000


@pytest.mark.parametrize("number", [0, -1, math.inf, math.nan])
def test_a_limit_is_a_number_above_zero(number: float) -> None:
    with pytest.raises(ValueError, match="limit"):
        RateLimit(number, None)
    with pytest.raises(ValueError, match="limit"):
        RateLimit(None, number)


@pytest.mark.parametrize("part", [0, -0.5, 1.5, math.nan])
def test_a_share_is_a_part_of_the_limit(part: float) -> None:
    with pytest.raises(ValueError, match="share"):
        RateLimit(1, 1).set_share(part, NOW)


def test_a_limit_of_either_kind_is_a_bound() -> None:
    bounded = [RateLimit(*given).has_bounds for given in ((None, None), (PER_MINUTE, None), (None, TOKENS_PER_MINUTE))]

    assert bounded == [False, True, True]
