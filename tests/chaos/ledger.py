"""What the model server saw: each call, of which line, by which process, from when to when."""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

# From an answer to its commit: the commit before it, 40 ms of gathering and its own, on a machine whose two cores are
# full with two deployments.
COMMIT_CYCLE_S = 1.0
# A request may still be on its way to the model server when its process is hit.
_ON_ITS_WAY_S = 0.1


@dataclass(eq=False, slots=True)
class Call:
    """One call; instants are monotonic seconds, `ended_at` is None while it is open."""

    marker: str
    pid: int | None
    opened_at: float
    ended_at: float | None = None
    # The caller went away before it had its answer.
    is_broken: bool = False

    def was_open(self, at: float) -> bool:
        return self.opened_at <= at and (self.ended_at is None or self.ended_at >= at)


@dataclass(frozen=True, slots=True)
class Hit:
    """A process that a fault hit, and the span in which what it called may have been lost."""

    pid: int
    since: float
    until: float

    def excuses(self, call: Call) -> bool:
        """Return whether the call was open, or answered and maybe not committed, when its process was hit."""
        is_in_time = call.opened_at <= self.until + _ON_ITS_WAY_S
        is_uncommitted = call.ended_at is None or call.ended_at >= self.since - COMMIT_CYCLE_S
        return (call.pid == self.pid or self._took_it_along(call)) and is_in_time and is_uncommitted

    def _took_it_along(self, call: Call) -> bool:
        # Whose a connection is can't be seen any more once its process is dead, which it was before the call was read.
        return call.pid is None and call.is_broken and abs(call.opened_at - self.since) <= _ON_ITS_WAY_S


@dataclass
class Ledger:
    """The calls of one round; written by the model server's thread, read by others."""

    _calls: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, marker: str, pid: int | None) -> Call:
        call = Call(marker, pid, time.monotonic())
        with self._lock:
            self._calls[marker].append(call)
        return call

    def end(self, call: Call, *, is_broken: bool) -> None:
        call.ended_at = time.monotonic()
        call.is_broken = is_broken

    def by_marker(self) -> dict[str, list[Call]]:
        with self._lock:
            return {marker: list(calls) for marker, calls in self._calls.items()}

    def all(self) -> list[Call]:
        return [call for calls in self.by_marker().values() for call in calls]

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()
