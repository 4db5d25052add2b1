"""A simulated upstream and workers that call it under a limit each: events in order, no clock."""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from app.domain.concurrency import Call, ConcurrencyLimit, Outcome, Report

_TICK_S = 0.02
# Latency of a refusal.
_REFUSAL_S = 0.01
# Interval of the callers' reports.
_REPORT_S = 1.0


def always(service_s: float) -> Callable[[random.Random], float]:
    """Return answers of equal latency."""
    return lambda _: service_s


def log_normal(mean_s: float, sigma: float) -> Callable[[random.Random], float]:
    """Return answers whose time varies as a language model's does: sigma 1 is a factor of ten within 75 % of them."""
    mu = -sigma * sigma / 2
    return lambda rng: mean_s * rng.lognormvariate(mu, sigma)


@dataclass
class Caller:
    """A worker process: the limit, and the outcomes of the calls."""

    limit: ConcurrencyLimit
    starts_at: float = 0.0
    # Instants of the first report and of leaving.
    joins_at: float = 0.0
    ends_at: float = math.inf
    # Most lines in hand; None for any number.
    lines: int | None = None
    # Next lines, for a model that is away.
    lines_away: int = 0
    answered: int = 0
    refused: int = 0
    latency_sum_s: float = 0.0
    # (at, limit, in flight) at each tick.
    history: list[tuple[float, int, int]] = field(default_factory=list)


class Simulation:
    """Callers that always have lines, on one upstream; each second each tells the others of itself and hears of them.

    Args:
        callers: who calls.
        capacity: calls served at once, of the time; None for any number.
        service_s: draws how long the next call is served.
        allowed: calls in flight that all callers may have together, in equal parts; None for the ceiling of each.
        mode: what becomes of calls above the capacity: "queue", "refuse", or "slow", where all are served, each slower.
        away_per_s: calls a second of each caller, from when it begins, for a model that is away: refused at once.
    """

    def __init__(
        self,
        callers: Sequence[Caller],
        *,
        capacity: Callable[[float], int | None],
        service_s: Callable[[random.Random], float],
        mode: str = "queue",
        allowed: int | None = None,
        away_per_s: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.callers = callers
        self.now = 0.0
        self.busy_s = 0.0
        self.possible_s = 0.0
        self._capacity = capacity
        self.service_s = service_s
        self._mode = mode
        self._away_per_s = away_per_s
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._waiting: deque[Callable[[], None]] = deque()
        self._serving = 0
        self._allowed = allowed
        # The callers' last reports, by place.
        self._reports: dict[int, Report] = {}
        for place, caller in enumerate(callers):
            # A report comes before the first call, the next ones at any time.
            self._at(caller.joins_at, partial(self._report, place))
            self._at(caller.joins_at + self._random.uniform(0, _REPORT_S), self._reporter(place))
            self._at(caller.starts_at, self._ticker(caller))
            if away_per_s:
                self._at(caller.starts_at, self._sender_away(caller))

    def run(self, until_s: float) -> None:
        """Simulate up to an instant."""
        while self._events and self._events[0][0] <= until_s:
            at, _, act = heapq.heappop(self._events)
            self._pass(at)
            act()
        self._pass(until_s)

    def reset(self) -> None:
        """Reset the counts."""
        self.busy_s = self.possible_s = 0.0
        for caller in self.callers:
            caller.answered = caller.refused = 0
            caller.latency_sum_s = 0.0

    @property
    def used(self) -> float:
        """The used part of the upstream's capacity."""
        return self.busy_s / self.possible_s

    @property
    def mean_latency_s(self) -> float:
        """The mean latency of answered calls."""
        return sum(each.latency_sum_s for each in self.callers) / max(sum(each.answered for each in self.callers), 1)

    @property
    def refused_share(self) -> float:
        """The refused part of all calls."""
        refused = sum(each.refused for each in self.callers)
        return refused / max(refused + sum(each.answered for each in self.callers), 1)

    def _pass(self, at: float) -> None:
        capacity = self._capacity(self.now)
        spent_s = at - self.now
        most = sum(each.limit.ceiling for each in self.callers)
        self.possible_s += spent_s * (min(most, capacity) if capacity else most)
        self.busy_s += spent_s * min(self._serving, capacity or most)
        self.now = at

    def _at(self, at: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), act))

    def _ticker(self, caller: Caller) -> Callable[[], None]:
        def tick() -> None:
            caller.limit.tick(self.now)
            caller.history.append((self.now, caller.limit.limit, caller.limit.in_flight))
            self._call(caller)
            self._at(self.now + _TICK_S, tick)

        return tick

    def _sender_away(self, caller: Caller) -> Callable[[], None]:
        def send() -> None:
            caller.lines_away += 1
            self._call(caller)
            self._at(self.now + self._random.expovariate(self._away_per_s), send)

        return send

    def _reporter(self, place: int) -> Callable[[], None]:
        def report() -> None:
            self._report(place)
            self._at(self.now + _REPORT_S, report)

        return report

    def _report(self, place: int) -> None:
        caller = self.callers[place]
        if self.now >= caller.ends_at:
            self._reports.pop(place, None)
            return
        self._reports[place] = caller.limit.report(self.now)
        places = sorted(self._reports)
        ceiling = self._allowed // len(places) if self._allowed else caller.limit.ceiling
        caller.limit.set_workers(places.index(place), [self._reports[each] for each in places], ceiling, self.now)

    def _call(self, caller: Caller) -> None:
        limit = caller.limit
        if self.now >= caller.ends_at:
            return
        while limit.in_flight < limit.limit and (caller.lines is None or limit.in_flight < caller.lines):
            call = limit.begin(self.now)
            capacity = self._capacity(self.now)
            if caller.lines_away:
                caller.lines_away -= 1
                self._at(self.now + _REFUSAL_S, self._ender(caller, call, Outcome.REFUSED))
            elif self._mode == "slow" or capacity is None or self._serving < capacity:
                self._serve(caller, call)
            elif self._mode == "queue":
                self._waiting.append(partial(self._serve, caller, call))
            else:
                self._at(self.now + _REFUSAL_S, self._ender(caller, call, Outcome.REFUSED))

    def _serve(self, caller: Caller, call: Call) -> None:
        self._serving += 1
        service_s, capacity = self.service_s(self._random), self._capacity(self.now)
        if self._mode == "slow" and capacity is not None:
            service_s *= max(self._serving / capacity, 1.0)
        end = self._ender(caller, call, Outcome.ANSWERED)

        def leave() -> None:
            self._serving -= 1
            capacity = self._capacity(self.now)
            while self._waiting and (capacity is None or self._serving < capacity):
                self._waiting.popleft()()
            end()

        self._at(self.now + service_s, leave)

    def _ender(self, caller: Caller, call: Call, outcome: Outcome) -> Callable[[], None]:
        def end() -> None:
            if outcome is Outcome.ANSWERED:
                caller.answered += 1
                caller.latency_sum_s += self.now - call.started_at
            else:
                caller.refused += 1
            caller.limit.end(call, self.now, outcome)
            self._call(caller)

        return end
