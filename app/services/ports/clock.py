"""The time, as the use cases see it."""

from typing import Protocol


class Clock(Protocol):
    """The time of day, and a time to measure with."""

    def now(self) -> float:
        """Return the seconds since 1970, UTC: for what callers are told, and for windows. It may step at any moment."""

    def monotonic(self) -> float:
        """Return seconds that only go on, and mean nothing to any other process: for how long something takes."""
