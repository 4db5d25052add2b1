"""The time of day and the time since some instant, from the machine."""

import time


class SystemClock:
    """`Clock` on the machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
