"""Reports of an upstream's other workers (peers), a second or two old, and this worker's share of the limit.

The worker that began to call first leads for as long as its calls go on. Only the leader probes the upstream's
capacity, by the leader's own calls; the peers take even shares of the bound that the leader reports. If every worker
probed alone, a worker would mistake queueing caused by peers for a slow upstream. And only the first worker has seen
how long a call takes with few calls in flight. Of workers that begin within a second, the first by place leads, and the
rest wait.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

# Calls that a worker sends at once at the start.
START = 16
# Reports from the moment a worker joins, or begins to call, until every peer has counted the newcomer and reported
# since.
_SETTLING = 3
# For this many reports a beginner waits for the first worker to find the capacity, or for peers to give up a share.
_WAITING = 1
# A worker with calls in flight in any of the last `_REMEMBERED` reports has not stopped: lines arrive in clumps. The
# unused share stays reserved for `_DIPS` reports, because the worker needs the share for the next lines.
_REMEMBERED = 3
_DIPS = 2
# If the peers' calls in flight changed by more than this part of all calls between two reports, samples taken in
# between are wrong: the moment of the change is unknown.
_MOVED = 0.2
# A new report counts as no older than this, whatever the clock of its worker says.
_OLDEST_S = 1.1


class Report(NamedTuple):
    """A worker's report about its limit.

    Args:
        in_flight: the worker's calls in flight.
        bound: calls that all workers together should have in flight; 0 if the worker knows no bound.
        leads_since: the instant from which the worker leads, as far as it knows, above 0; 0 if it does not lead.
        at: the instant of the report.
    """

    in_flight: int
    bound: int
    leads_since: float = 0.0
    at: float = 0.0


class Fellows:
    """The peers (the other workers of an upstream), as known to this worker."""

    def __init__(self) -> None:
        self.workers = 1
        self.in_flight = 0
        # Also true while no worker calls: the first call then makes this worker the leader.
        self.leads = True
        # Infinite while a peer leads, and until this worker has called and no longer waits for peers.
        self.leads_since = math.inf
        # The leader's bound, if a peer leads; the lowest bound of the peers. None where no peer reports a bound.
        self.bound: int | None = None
        self.least: int | None = None
        # From when on the known number of the peers' calls in flight may have been wrong; None if it was about right.
        self.wrong_since: float | None = None
        self._settling = 0
        self._waiting = 0
        # The last reports by place; the instant of the newest; the most calls in flight that the peers had together.
        self._recent: deque[Sequence[Report]] = deque(maxlen=_REMEMBERED)
        self._heard_at = -math.inf
        self._most = 0

    @property
    def are_settling(self) -> bool:
        """Whether the peers' reports may be older than their last change."""
        return self._settling > 0

    @property
    def is_awaited(self) -> bool:
        """Whether this worker begins, and lets peers go first."""
        return self._waiting > 0

    def begin(self, now: float) -> None:
        """Note the beginning of this worker's calls."""
        if self.leads and not self._waiting:
            self.leads_since = min(self.leads_since, now)

    def hear(self, place: int, reports: Sequence[Report], own: int, now: float, *, is_starting: bool) -> None:
        """Take in the last reports of all workers; this worker is at `place`, with `own` calls in flight by now."""
        others = [report for number, report in enumerate(reports) if number != place]
        if len(reports) != self.workers:
            self._recent.clear()
        self.wrong_since = self._find_wrong(place, reports, own)
        self._recent.append(reports)
        self._heard_at = now
        self._most = max(_elsewhere(recent, place) for recent in list(self._recent)[-_DIPS:])
        has_called = own > 0 or any(recent[place].in_flight for recent in self._recent)
        if not has_called:
            self.leads_since = math.inf
        leader, since = self._leader(place, reports)
        if is_starting and not own and others and (place or (leader != place and since < math.inf)):
            self._waiting = _WAITING
        elif self._waiting:
            self._waiting -= 1
        if len(reports) != self.workers or is_starting:
            self._settling = _SETTLING
        elif self._settling:
            self._settling -= 1
        self.workers, self.in_flight = len(reports), _elsewhere(reports, place)
        self.leads = leader == place
        if not self.leads:
            self.leads_since = math.inf
        elif has_called and not self._waiting:
            self.leads_since = min(self.leads_since, now)
        self.bound = None if self.leads else reports[leader].bound or None
        self.least = min((report.bound for report in others if report.bound), default=None)

    def _leader(self, place: int, reports: Sequence[Report]) -> tuple[int, float]:
        """Return the leader's place and the start of its lead; infinite if no calling worker reports a lead."""
        since = {
            number: reports[number].leads_since or math.inf
            for number, recent in enumerate(zip(*self._recent, strict=True))
            if any(report.in_flight for report in recent)
        }
        since[place] = self.leads_since
        return min(since.items(), key=lambda each: (each[1], each[0]))

    def _find_wrong(self, place: int, reports: Sequence[Report], own: int) -> float | None:
        elsewhere = _elsewhere(reports, place)
        most = _MOVED * (elsewhere + own)
        if abs(elsewhere - self.in_flight) <= most:
            return None
        if self._recent:
            # A peer's count moved at some time after the peer's earlier report.
            pairs = [pair for number, pair in enumerate(zip(self._recent[-1], reports, strict=True)) if number != place]
            off = 0
            for before, after in sorted(pairs, key=lambda pair: pair[0].at):
                off += after.in_flight - before.in_flight
                if abs(off) > most:
                    return min(max(before.at, self._heard_at - _OLDEST_S), self._heard_at)
        return self._heard_at

    def held(self, own: int) -> int:
        """Return the calls in flight of all workers, with an estimate for starting peers without a report."""
        if not self._settling:
            return own + self.in_flight
        return own + max(self.in_flight, min(own, START) * (self.workers - 1))

    def part(self, bound: float) -> float:
        """Return this worker's share of `bound`; the leader makes up for peers above or below their share."""
        part = bound / self.workers
        if self._waiting:
            return min(part, max(bound - self.in_flight, 1.0))
        if self.workers == 1 or self._settling or self.bound is not None:
            return part
        # Between half and twice the even share, because the peers' reports may be out of date.
        return min(max(bound - self._most, part / 2), part * 2)


def _elsewhere(reports: Sequence[Report], place: int) -> int:
    return sum(report.in_flight for number, report in enumerate(reports) if number != place)
