"""The limit of calls and tokens a minute, asked over simulated minutes and hours."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.rates import BURST_S, RateLimit, Ticket

NOW = 1_700_000_000.0
MINUTE_S = 60.0
HOUR_S = 3_600.0
# Of sums of many small numbers, at a time that is a large one.
ROUNDING = 1e-4

per_minute = st.sampled_from([0.5, 7.0, 60.0, 333.3, 6_000.0])
gaps_s = st.one_of(st.just(0.0), st.floats(0, 0.1), st.floats(0, 5), st.floats(0, 200))
parts = st.sampled_from([1.0, 0.5, 1 / 3, 0.1, 0.01])


class Step(NamedTuple):
    """After a while the share changes, where one is given, and up to so many calls begin."""

    gap_s: float
    part: float | None
    wanted: int


class Schedule:
    """What began when, and what the limit had let begin by then."""

    def __init__(self, limit: RateLimit, rate: float) -> None:
        self._limit = limit
        self._full_rate = self._rate = rate
        self._now = NOW
        self._allowed = 0.0
        # The instants of calls, and the integral of the limit at each of them.
        self.begun_at: list[float] = []
        self.allowed: list[float] = []
        limit.wait_s(NOW)

    def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            # As the limit sees it, which is by instants that are rounded.
            passed_s = self._now + step.gap_s - self._now
            self._now += step.gap_s
            self._allowed += passed_s * self._rate
            if step.part is not None:
                self._limit.set_share(step.part, self._now)
                self._rate = self._full_rate * step.part
            for _ in range(step.wanted):
                if self._limit.wait_s(self._now):
                    break
                self._limit.begin(self._now)
                self.begun_at.append(self._now)
                self.allowed.append(self._allowed)

    def most_above(self, span_s: float) -> float:
        """Return by how much calls passed the limit in the span of this length in which they did most."""
        most = 0.0
        for first, began_at in enumerate(self.begun_at):
            after = bisect_left(self.begun_at, began_at + span_s)
            most = max(most, after - first - (self.allowed[after - 1] - self.allowed[first]))
        return most


def steps(part: st.SearchStrategy[float | None]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.builds(Step, gaps_s, part, st.integers(0, 400)), max_size=60)


@given(per_minute, steps(st.none()))
@settings(deadline=None, max_examples=150)
def test_in_no_minute_more_calls_begin_than_the_limit_and_the_burst(limit: float, steps: list[Step]) -> None:
    schedule = Schedule(RateLimit(limit, None), limit / MINUTE_S)

    schedule.run(steps)

    for first, began_at in enumerate(schedule.begun_at):
        in_minute = bisect_left(schedule.begun_at, began_at + MINUTE_S) - first
        assert in_minute <= limit + limit / MINUTE_S * BURST_S + 1 + ROUNDING


@given(per_minute, steps(st.one_of(st.none(), parts)))
@settings(deadline=None, max_examples=150)
def test_with_shares_that_change_no_span_has_more_than_its_shares_and_the_burst(
    limit: float, steps: list[Step]
) -> None:
    schedule = Schedule(RateLimit(limit, None), limit / MINUTE_S)

    schedule.run(steps)

    for span_s in (1.0, MINUTE_S, HOUR_S):
        assert schedule.most_above(span_s) <= limit / MINUTE_S * BURST_S + 1 + ROUNDING


@given(st.integers(1, 8), st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_processes_that_share_a_limit_keep_it_together(processes: int, seed: int) -> None:
    random, limit = Random(seed), 600.0
    shared = [RateLimit(limit, None) for _ in range(processes)]
    begun_at: list[float] = []
    for each in shared:
        each.set_share(1 / processes, NOW)

    for tick in range(1_500):
        now = NOW + tick / 10
        for each in shared:
            while random.random() < 0.9 and not each.wait_s(now):
                each.begin(now)
                begun_at.append(now)

    for first, began_at in enumerate(begun_at):
        in_minute = bisect_left(begun_at, began_at + MINUTE_S) - first
        assert in_minute <= limit * (1 + BURST_S / MINUTE_S) + processes


@pytest.mark.parametrize("limit", [3.0, 60.0, 5_000.0, 100_000.0])
@pytest.mark.parametrize("late_s", [0.0, 0.02, 1.5])
def test_constant_demand_uses_the_limit_fully_though_timers_are_late(limit: float, late_s: float) -> None:
    rates, random = RateLimit(limit, None), Random(1)
    span_s = max(10 * MINUTE_S, 100 * MINUTE_S / limit) if limit <= 5_000 else MINUTE_S
    now, begun = NOW, 0

    while now < NOW + span_s:
        if wait_s := rates.wait_s(now):
            now += wait_s + late_s * random.random()
        else:
            rates.begin(now)
            begun += 1

    assert 0.95 <= begun / (limit * span_s / MINUTE_S) <= 1.05


class Tokens:
    """Calls that take time and tokens, begun whenever the limit and the number of callers allow it."""

    def __init__(self, limit: float, seed: int, *, callers: int, used: Callable[[Random], int | None]) -> None:
        self._limit = limit
        self._rates = RateLimit(None, limit)
        self._random = Random(seed)
        self._callers = callers
        self._used = used
        self._in_flight: list[tuple[float, int, Ticket, int | None]] = []
        self.now = NOW
        self.begun = 0
        # Tokens of calls that ended; what they were charged where nobody counted.
        self.used = 0.0
        self.worst_excess = 0.0

    @property
    def charged_in_flight(self) -> float:
        return sum(ticket.tokens for _, _, ticket, _ in self._in_flight)

    def run(self, span_s: float) -> None:
        end_at = self.now + span_s
        while self.now < end_at:
            wait_s = self._rates.wait_s(self.now)
            if not wait_s and len(self._in_flight) < self._callers:
                self._begin()
                continue
            may_begin_at = self.now + wait_s if wait_s and len(self._in_flight) < self._callers else end_at
            if self._in_flight and self._in_flight[0][0] <= may_begin_at:
                self._end()
            else:
                self.now = may_begin_at

    def _begin(self) -> None:
        known = self.used + self.charged_in_flight
        self.worst_excess = max(self.worst_excess, known - self._limit / MINUTE_S * (self.now - NOW))
        ends_at = self.now + self._random.uniform(0.1, 20)
        heappush(self._in_flight, (ends_at, self.begun, self._rates.begin(self.now), self._used(self._random)))
        self.begun += 1

    def _end(self) -> None:
        ends_at, _, ticket, used = heappop(self._in_flight)
        self.now = max(self.now, ends_at)
        self._rates.end(ticket, used, self.now)
        self.used += ticket.tokens if used is None else used


def even(random: Random) -> int:
    return random.randint(100, 900)


def long_tailed(random: Random) -> int:
    return int(random.lognormvariate(6, 1.2))


def two_kinds(random: Random) -> int:
    return 50 if random.random() < 0.9 else 20_000


def seldom_counted(random: Random) -> int | None:
    return even(random) if random.random() < 0.5 else None


KINDS = [even, long_tailed, two_kinds, seldom_counted]


@pytest.mark.parametrize("used", KINDS, ids=lambda used: used.__name__)
@pytest.mark.parametrize("limit", [60_000.0, 1_000_000.0])
def test_constant_demand_uses_the_tokens_fully_and_no_more(limit: float, used: Callable[[Random], int | None]) -> None:
    tokens = Tokens(limit, 1, callers=1_000, used=used)

    tokens.run(HOUR_S)

    assert 0.95 <= (tokens.used + tokens.charged_in_flight) / (limit * HOUR_S / MINUTE_S) <= 1.02


@given(
    st.sampled_from([600.0, 60_000.0, 500_000.0]), st.integers(0, 2**32), st.integers(1, 200), st.sampled_from(KINDS)
)
@settings(deadline=None, max_examples=40)
def test_no_call_begins_while_more_tokens_are_charged_than_the_limit_allows_by_then(
    limit: float, seed: int, callers: int, used: Callable[[Random], int | None]
) -> None:
    tokens = Tokens(limit, seed, callers=callers, used=used)

    tokens.run(5 * MINUTE_S)

    assert tokens.begun > 0
    assert tokens.worst_excess <= ROUNDING * limit / MINUTE_S
