"""Checks of readiness that cost something: everybody may ask for them, without a key."""

import threading
import time
from collections.abc import Callable

from app.domain.errors import Unavailable

_HOLDS_S = 1.0
_PATIENCE_S = 5.0


class HeldCheck:
    """A check whose outcome holds for a second; while one is under way, those who ask wait for its outcome."""

    def __init__(self, check: Callable[[], None], *, patience_s: float = _PATIENCE_S) -> None:
        self._check = check
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._fault: Exception | None = None

    def __call__(self) -> None:
        # A share whose server is gone keeps a call for as long as it is away: it keeps one thread, and no more.
        if not self._lock.acquire(timeout=self._patience_s):
            raise Unavailable(f"A check that began more than {self._patience_s:g} s ago has no outcome yet.")
        try:
            if time.monotonic() - self._checked_at >= _HOLDS_S:
                self._fault = self._look()
                self._checked_at = time.monotonic()
            fault = self._fault
        finally:
            self._lock.release()
        if fault is not None:
            raise Unavailable(str(fault))

    def _look(self) -> Exception | None:
        try:
            self._check()
        except Exception as fault:  # whatever it is, it is the outcome
            return fault
        return None
