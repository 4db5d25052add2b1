"""The concurrency limit of an upstream: as many calls in flight as the upstream serves at once, and few more.

Three bounds below the ceiling; the lowest bound holds:

- latency: the knee (knee.py), above which calls only wait longer, and a little more: the upstream must never idle;
- refusals: the calls in flight when the upstream refused a call; raised again a call at a time, faster on success;
- target: a mean latency that the operator asks for, so that other users of the upstream are served soon.

At the start the limit rises to the ceiling within a fraction of a second: an upstream without room refuses before much
has gone out, and an upstream with room is used at once.
"""

import math
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from app.domain.bounds import ByLatency, ByRefusals, ByTarget
from app.domain.fellows import START, Fellows, Report
from app.domain.knee import TOLD, Cohort

__all__ = ["Call", "ConcurrencyLimit", "Outcome", "Report"]

# Additional calls that go out each second at the start.
_RISE_PER_S = 1_000.0
# A cohort has as many calls as may be in flight, and so samples every wave of returning calls; but a cohort has at
# least this many calls, and lasts at least this long.
_MIN_COHORT = 16
_MIN_COHORT_S = 0.05
# Publish a new bound only after a move by this part or more: while the peers' calls in flight stay level, this worker's
# effect on latency is easier to see.
_SAID_ANEW = 0.1
# Beside peers, a refusal lowers the shared bound to no less than the first part, and this worker's own limit to no less
# than the second part, until the next report. If calls end and begin together, few of this worker's calls may be in
# flight at the moment of the refusal.
_HELD = 0.8
_LEAST_CAP = 0.5


class Outcome(Enum):
    """How a call ended, as far as the upstream's capacity shows in it."""

    ANSWERED = "answered"
    REFUSED = "refused"
    # Broken off, or never made: shows nothing.
    DROPPED = "dropped"


class Call(NamedTuple):
    """A call in flight; `beside` counts the calls in flight of all workers at the call's beginning, itself included."""

    cohort: Cohort
    started_at: float
    beside: int


class ConcurrencyLimit:
    """The limit of a worker process for an upstream; instants are seconds of a clock close to the peers' clocks.

    Args:
        ceiling: the limit never passes the ceiling.
        is_adaptive: False keeps the limit at the ceiling.
        latency_target_s: lower the limit for this mean latency, even if the throughput falls.
    """

    def __init__(self, ceiling: int, *, is_adaptive: bool = True, latency_target_s: float | None = None) -> None:
        self.ceiling = ceiling
        self.limit = min(START, ceiling) if is_adaptive else ceiling
        # Why the limit has its value: starting, ceiling, latency, refused, target, others, or probing during a trial.
        self.reason = "starting" if self.limit < ceiling else "ceiling"
        self.in_flight = 0
        self._is_adaptive = is_adaptive
        self._risen_at: float | None = None
        self._cohort = Cohort(-math.inf)
        self._cohort_calls = _MIN_COHORT
        # Calls that all workers together may have in flight.
        self._total: float = self.limit
        self._fellows = Fellows()
        self._said = 0
        # This worker's calls in flight when a call was refused, until the next report.
        self._cap = math.inf
        self._least_cap = 1.0
        self._least_held = 0.0
        self._latency = ByLatency()
        self._refusals = ByRefusals()
        self._target = ByTarget(latency_target_s) if latency_target_s is not None else None
        self._start: float = ceiling if not is_adaptive else min(START, ceiling)

    @property
    def prospect(self) -> int:
        """The limit in a moment: the ceiling while the limit rises at the start."""
        return self.ceiling if self.reason == "starting" else self.limit

    def report(self, now: float) -> Report:
        """Return the report for the upstream's other workers."""
        since = self._fellows.leads_since
        return Report(self.in_flight, self._said, since if since < math.inf else 0.0, now)

    def set_workers(self, place: int, reports: Sequence[Report], ceiling: int, now: float) -> None:
        """Take in the last reports of the upstream's workers; called once a second, even by a lone worker.

        Args:
            place: this worker's index among the workers, 0-based; every worker uses the same order.
            reports: a report for each worker, this worker included.
            ceiling: the limit never passes the ceiling from now on.
            now: the present instant. If clocks differ, the later of two workers that begin together may become the
                leader.
        """
        fellows, were_settling, was_told = self._fellows, self._fellows.are_settling, self._fellows.bound is not None
        fellows.hear(place, reports, self.in_flight, now, is_starting=self.reason == "starting")
        if fellows.wrong_since is not None:
            self._latency.doubt(fellows.wrong_since, now)
            if self._cohort.began_at >= fellows.wrong_since:
                # Drop the next cohort too: calls from before the change still wait in the upstream.
                self._cohort = Cohort(now)
        self.ceiling, self._cap = max(ceiling, 1), math.inf
        if not self._is_adaptive:
            self.limit = self.ceiling
            return
        if fellows.bound is not None:
            self._latency.follow(fellows.bound)
            self._start = self.ceiling
            if were_settling and not fellows.are_settling:
                # Findings from before this worker knew its peers say less than the peers' reports.
                self._refusals.forget()
        elif was_told and not fellows.leads and not fellows.are_settling:
            # The leader has given up its bound.
            self._latency.follow(math.inf)
        elif fellows.leads and fellows.least is not None and not fellows.are_settling:
            self._latency.heed(fellows.least, fellows.held(self.in_flight))
        self._choose()

    def begin(self, now: float) -> Call:
        """Count a call that begins; hand the returned call to `end`."""
        if not self.in_flight:
            self._fellows.begin(now)
        self.in_flight += 1
        cohort = self._cohort
        beside = self._fellows.held(self.in_flight)
        cohort.calls += 1
        cohort.in_flight_sum += beside
        if cohort.calls >= self._cohort_calls and now - cohort.began_at >= _MIN_COHORT_S:
            cohort.is_closed = True
            self._cohort = Cohort(now)
        return Call(cohort, now, beside)

    def end(self, call: Call, now: float, outcome: Outcome) -> None:
        """Count a call that ended."""
        self.in_flight -= 1
        if not self._is_adaptive:
            return
        if outcome is Outcome.ANSWERED:
            self._answered(call, now)
            return
        # The cohort counts only calls with a latency.
        call.cohort.calls -= 1
        call.cohort.in_flight_sum -= call.beside
        if outcome is Outcome.REFUSED:
            self._refused(call.started_at, now)

    def tick(self, now: float) -> bool:
        """Let the limit rise at the start, at some fifty calls of `tick` a second; return whether it still rises."""
        if self.reason != "starting" or self._fellows.is_awaited:
            return False
        if self._risen_at is not None and self.in_flight:
            self._start = min(self._start + _RISE_PER_S * min(now - self._risen_at, 0.05), self.ceiling)
        self._risen_at = now
        self._choose()
        return True

    def _answered(self, call: Call, now: float) -> None:
        cohort, started_at, beside = call
        latency_s = now - started_at
        cohort.latencies.append(latency_s)
        in_flight = self._fellows.held(self.in_flight + 1)
        has_moved = self._refusals.heeds_answers and self._refusals.answered(started_at, beside, in_flight, self._total)
        if self._target is not None and self._target.answered(latency_s, in_flight, self._total, self.limit):
            has_moved = True
        if cohort.is_closed and not cohort.is_scored and len(cohort.latencies) >= TOLD * cohort.calls:
            cohort.is_scored = True
            has_moved |= self._latency.learn(cohort, now, may_move=self._fellows.bound is None)
        if has_moved:
            self._choose()

    def _refused(self, started_at: float, now: float) -> None:
        held = self._fellows.held(self.in_flight)
        if self._fellows.workers == 1:
            self._refusals.refused(started_at, now, held)
        else:
            self._refused_beside_others(started_at, now, held)
        self._start = self.ceiling
        self._choose()

    def _refused_beside_others(self, started_at: float, now: float, held: int) -> None:
        """Lower the bound once a report: until the next report, further refusals may be due to the peers' calls."""
        is_early = self._fellows.are_settling
        if self._cap == math.inf:
            least_cap = _LEAST_CAP * (min(self.limit, START) if is_early else self.limit)
            self._least_cap = 1.0 if self._fellows.is_awaited else least_cap
            self._least_held = _HELD * self._refusals.bound if held and self._refusals.bound < math.inf else 0.0
            if held or not is_early:
                self._refusals.refused(started_at, now, max(held, round(self._least_held)))
        elif is_early and self._fellows.leads and held and self._refusals.is_of_burst(started_at):
            # The calls of a burst counted as held at the burst's first refusal.
            self._refusals.refused(started_at, now, max(held, round(self._least_held)))
        if self._refusals.are_unrelated:
            return
        self._cap = max(self._least_cap, min(self.in_flight, self._cap))

    def _choose(self) -> None:
        bounds = [
            (self._latency.bound, self._latency.reason),
            (self._refusals.bound, self._refusals.reason),
        ]
        if self._target is not None:
            bounds.append((self._target.bound, "target"))
        bound, reason = min(bounds)
        start, ceiling = self._start * self._fellows.workers, self.ceiling * self._fellows.workers
        if start < min(bound, ceiling):
            bound, reason = start, "starting"
        elif bound >= ceiling:
            bound, reason = ceiling, "ceiling"
        if reason != "starting":
            self._start = self.ceiling
        self._total, self.reason = bound, reason
        part = bound / self._fellows.workers if reason in ("starting", "ceiling") else self._fellows.part(bound)
        self.limit = max(round(min(part, self.ceiling, self._cap)), 1)
        self._cohort_calls = _MIN_COHORT if reason == "starting" else max(_MIN_COHORT, self.limit)
        self._say()

    def _say(self) -> None:
        # A bound that this worker got from a peer is no news.
        latency = self._latency.settled if self._fellows.bound is None else math.inf
        bound = min(latency, self._refusals.bound, self._target.bound if self._target else math.inf)
        if bound >= self.ceiling * self._fellows.workers or self._fellows.is_awaited:
            self._said = 0
        elif not self._said or abs(bound / self._said - 1) > _SAID_ANEW:
            self._said = max(round(bound), 1)
