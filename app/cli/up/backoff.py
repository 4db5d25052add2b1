"""Back-off before the restart of an ended process."""

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
# A process that lived a minute was healthy: the next end starts a new row of failures.
STABLE_AFTER_S = 60.0


class Backoff:
    """Delays that double from 0.2 s to 10 s, until the process has lived for a minute."""

    def __init__(self) -> None:
        self.failures = 0

    def delay_s(self, lived_s: float) -> float:
        """Return the seconds to wait after a process that lived for `lived_s`."""
        if lived_s >= STABLE_AFTER_S:
            self.failures = 0
        delay_s = min(FIRST_DELAY_S * 2.0 ** min(self.failures, 30), LONGEST_DELAY_S)
        self.failures += 1
        return delay_s
