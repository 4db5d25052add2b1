"""The time of day and the time since a fixed instant, from the machine."""

import sys
import time


class SystemClock:
    """`Clock` on the machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def awake_or_asleep() -> float:
    """Return seconds that never go back, and go on while the machine is suspended if the system has such a clock."""
    # Linux' monotonic clock stops during a suspension, and other machines go on.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()
