"""What the other workers of an upstream said of themselves last, a second ago or two, and what one's own part is then.

The one that began to call first leads, for as long as it calls: it alone looks for what the upstream has room for, by
its own calls, and the others take an even part of what it says. If each looked for itself, each would take the wait
that the others cause for how the upstream is. And only the first has seen how long a call takes with few beside it.
Of those that begin within a second it is the first by place, which the others wait for.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

# Calls that go out at once at the start, of each worker.
START = 16
# Reports from when a worker comes, or begins to call, until all have counted it and said what they do since.
_SETTLING = 3
# For so many reports a worker that begins leaves it to the first to find the room, or to others to give up a part.
_WAITING = 1
# A worker that had calls in flight in one of so many reports has not stopped: lines come to it in clumps too. What it
# leaves in one of these is not taken at once, or it would be missing when it goes on.
_REMEMBERED = 3
_DIPS = 2
# Where the calls in flight of others moved by so much from one report to the next, as a part of those of all, what was
# learned in between is wrong: it is not known when they did.
_MOVED = 0.2
# A report is taken to be no older than this when it is heard, whatever the clock of its worker says.
_OLDEST_S = 1.1


class Report(NamedTuple):
    """What a worker says of its limit.

    Args:
        in_flight: its calls in flight.
        bound: how many calls all workers should have in flight together; 0 where it knows of no bound.
        leads_since: the instant from which it leads, as far as it knows, above 0; 0 where it does not.
        at: when it says so.
    """

    in_flight: int
    bound: int
    leads_since: float = 0.0
    at: float = 0.0


class Fellows:
    """The other workers, as far as this one knows."""

    def __init__(self) -> None:
        self.workers = 1
        self.in_flight = 0
        # Also where nobody calls: then this worker leads once it does.
        self.leads = True
        # Infinite where another one leads, and until this one has called and waits for none.
        self.leads_since = math.inf
        # What the leader says, if that is another one; the least that any other says. None where nobody says any.
        self.bound: int | None = None
        self.least: int | None = None
        # From when on they may have had other calls in flight than was known until now; None where it was about that.
        self.wrong_since: float | None = None
        self._settling = 0
        self._waiting = 0
        # What each said lately, by place, and when that was heard; the most calls in flight that others had together.
        self._recent: deque[Sequence[Report]] = deque(maxlen=_REMEMBERED)
        self._heard_at = -math.inf
        self._most = 0

    @property
    def are_settling(self) -> bool:
        """Whether what they said is still older than what they do."""
        return self._settling > 0

    @property
    def is_awaited(self) -> bool:
        """Whether this worker begins, and leaves it to others to go first."""
        return self._waiting > 0

    def begin(self, now: float) -> None:
        """Note that this worker begins to call."""
        if self.leads and not self._waiting:
            self.leads_since = min(self.leads_since, now)

    def hear(self, place: int, reports: Sequence[Report], own: int, now: float, *, is_starting: bool) -> None:
        """Take in what all said last, with this worker's at `place`, whose calls in flight by now are `own`."""
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
        """Return the place of the one that leads, and since when; infinite where none of those who call says so."""
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
            # Each moved at some time after it had said what it had before.
            pairs = [pair for number, pair in enumerate(zip(self._recent[-1], reports, strict=True)) if number != place]
            off = 0
            for before, after in sorted(pairs, key=lambda pair: pair[0].at):
                off += after.in_flight - before.in_flight
                if abs(off) > most:
                    return min(max(before.at, self._heard_at - _OLDEST_S), self._heard_at)
        return self._heard_at

    def held(self, own: int) -> int:
        """Return the calls in flight of all; those who begin with this one have some, though they haven't said so."""
        begun = min(own, START) * (self.workers - 1) if self._settling else 0
        return own + max(self.in_flight, begun)

    def part(self, bound: float) -> float:
        """Return this worker's part of what all may have in flight; the leader makes up for what others are off it."""
        part = bound / self.workers
        if self._waiting:
            return min(part, max(bound - self.in_flight, 1.0))
        if self.workers == 1 or self._settling or self.bound is not None:
            return part
        # Between bounds, for what the others said may be wrong by now.
        return min(max(bound - self._most, part / 2), part * 2)


def _elsewhere(reports: Sequence[Report], place: int) -> int:
    return sum(report.in_flight for number, report in enumerate(reports) if number != place)
