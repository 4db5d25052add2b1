"""Asks for refills: one for all batches that are accepted within a moment."""

import threading
import time
from collections.abc import Callable
from functools import cached_property

import structlog

from workers.vital_thread import vital_thread

log = structlog.get_logger()

# The first request of a moment is passed on at once; a refill for each of a hundred small batches would cost more than
# the batches.
_EVERY_S = 0.05


class RefillRequests:
    """Passes requests for a refill on, in a thread of its own; safe to use from any thread.

    Args:
        ask: asks the ticks process for a refill.
        every_s: the least time between two asks.
    """

    def __init__(self, ask: Callable[[], None], every_s: float = _EVERY_S) -> None:
        self._ask = ask
        self._every_s = every_s
        self._is_due = threading.Event()
        self._lock = threading.Lock()

    def request(self) -> None:
        """Have a refill asked for, now or within the least time between two asks."""
        self._is_due.set()
        with self._lock:
            if not self._thread.is_alive():
                self._thread.start()

    @cached_property
    def _thread(self) -> threading.Thread:
        return vital_thread("refill-requests", self._main)

    def _main(self) -> None:
        while True:
            self._is_due.wait()
            # Cleared before the ask: a request that comes during the ask leads to another ask.
            self._is_due.clear()
            try:
                self._ask()
            except Exception:
                # Beat asks for a refill within a second.
                log.warning("refill.not_asked", exc_info=True)
            time.sleep(self._every_s)
