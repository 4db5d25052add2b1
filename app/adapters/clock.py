"""The time of day and the time since some instant, from the machine."""

import sys
import time


class SystemClock:
    """`Clock` on the machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def awake_or_asleep() -> float:
    """Return seconds that only go on, also while the machine is suspended, where the system has a clock for that."""
    # Linux' monotonic clock stands still meanwhile, and other machines do not.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()
