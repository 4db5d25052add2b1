"""The time of day, from the machine."""

import time


class SystemClock:
    """`Clock` on the machine's clock."""

    def now(self) -> float:
        return time.time()
