"""The lease of this process: how long what it holds is its own to run."""

import threading
from collections.abc import Callable

from app.adapters.clock import awake_or_asleep
from app.services.ports import REPORT_LIFETIME_S


class Lease:
    """Extended by each report that reached the roster; safe to use from any thread.

    A process that was stopped for a while, suspended with its machine, or cut off from the broker is taken for dead:
    what it held may run elsewhere. The lease ends here no later than it ends there, by a clock that nobody sets, and
    each one that follows a lapse has a new term: what was taken up in an older term is let go.
    """

    def __init__(self, clock: Callable[[], float] = awake_or_asleep) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self.term = 0

    def now(self) -> float:
        """Return the instant to hand to `extend`: it is read before the report goes out."""
        return self._clock()

    def extend(self, reported_at: float) -> bool:
        """Count from a report that arrived; return whether the lease had lapsed before."""
        with self._lock:
            has_lapsed = self._clock() >= self._until
            if has_lapsed:
                self.term += 1
            self._until = reported_at + REPORT_LIFETIME_S
            return has_lapsed

    def is_held(self) -> bool:
        """Return whether the lease runs."""
        return self._clock() < self._until

    def covers(self, term: int) -> bool:
        """Return whether what was taken up in this term is still this process's to start."""
        return term == self.term and self._clock() < self._until
