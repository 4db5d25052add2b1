"""The lease of this process: how long the process may run the tasks it holds."""

import threading
from collections.abc import Callable

from app.adapters.clock import awake_or_asleep
from app.services.ports import REPORT_LIFETIME_S


class Lease:
    """A lease, extended by every report reaching the roster; thread-safe.

    A process that was stopped for a while, suspended with its machine, or cut off from the broker is taken for dead,
    and its tasks may run elsewhere. The lease ends for this process no later than for the other processes, by a clock
    that is never set. A lease after a lapse has a new term: tasks received in an older term are dropped.
    """

    def __init__(self, clock: Callable[[], float] = awake_or_asleep) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self.term = 0

    def now(self) -> float:
        """Return the instant to pass to `extend`, read before the report goes out."""
        return self._clock()

    def extend(self, reported_at: float) -> bool:
        """Extend the lease from the instant of an arrived report; return whether the lease had lapsed before."""
        with self._lock:
            has_lapsed = self._clock() >= self._until
            if has_lapsed:
                self.term += 1
            self._until = reported_at + REPORT_LIFETIME_S
            return has_lapsed

    def is_held(self) -> bool:
        """Return whether the lease is running."""
        return self._clock() < self._until

    def covers(self, term: int) -> bool:
        """Return whether this process may still start work received in lease term `term`."""
        return term == self.term and self._clock() < self._until
