"""The time, as the use cases see it."""

from typing import Protocol


class Clock(Protocol):
    """The time of day, and a clock to measure durations."""

    def now(self) -> float:
        """Return the seconds since 1970, UTC, for callers and for windows. The clock may step at any moment."""

    def monotonic(self) -> float:
        """Return seconds that only go on, for durations; the value means nothing to other processes."""
