"""When a call to a model is made again, and after how long."""

from enum import Enum
from typing import NamedTuple


class Trouble(Enum):
    """What stands in the way of a call, sorted by what helps."""

    NONE = "none"
    # The model answered, and would answer the same again.
    FINAL = "final"
    # This call went wrong and may be this line's doing: a few more tries.
    FLAKY = "flaky"
    # The upstream takes no call now, which is no line's doing: try until the deadline.
    AWAY = "away"


class Tries(NamedTuple):
    """The calls made for a line so far, and those of them whose trouble may be the line's own."""

    calls: int = 0
    faults: int = 0

    def after(self, trouble: Trouble) -> "Tries":
        """Return the count with one call more that met this trouble."""
        return Tries(self.calls + 1, self.faults + (trouble is Trouble.FLAKY))


NO_TRIES = Tries()

# Retrying helps with these alone; the other 4xx say what is wrong with the line.
_AWAY_STATUSES = frozenset({429, 502, 503, 504, 529})
_FLAKY_STATUSES = frozenset({408, 409, 425})


def trouble_of(status: int) -> Trouble:
    """Return what an HTTP status means for the line that got it."""
    if status in _AWAY_STATUSES:
        return Trouble.AWAY
    if status in _FLAKY_STATUSES or status >= 500:
        return Trouble.FLAKY
    if 200 <= status < 300:
        return Trouble.NONE
    return Trouble.FINAL


class RetryPolicy(NamedTuple):
    """Exponential back-off with full jitter."""

    # Calls that may end in trouble of the line's own before that becomes its result.
    max_tries: int = 5
    base_s: float = 0.5
    cap_s: float = 60.0
    # An upstream that asks for more is asked again sooner than it says: it may be up by then.
    retry_after_cap_s: float = 600.0

    def delay_s(self, tries: int, retry_after_s: float | None, random: float) -> float:
        """Return the seconds to wait after `tries` calls; `random` is uniform in [0, 1).

        A `Retry-After` is the least that is waited; jitter goes on top so that lines don't return as one.
        """
        jitter = random * min(self.cap_s, self.base_s * 2.0 ** min(tries, 30))
        if retry_after_s is None or retry_after_s <= 0:
            return jitter
        return min(retry_after_s, self.retry_after_cap_s) + jitter
