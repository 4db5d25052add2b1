"""The time, as the use cases see it."""

from typing import Protocol


class Clock(Protocol):
    """The time of day."""

    def now(self) -> float:
        """Return the seconds since 1970, UTC."""
