"""Clearing: delete the results of batches that have ended, in the time that recording leaves."""

import time
from collections.abc import Callable

from app.services.ports import ResultStore

# Others record results meanwhile, and on SQLite each transaction waits for the one before it. So one is to take this
# long, and deletes as many results as can be deleted in that time.
_AIM_S = 0.02
_FIRST_RESULTS, _FEWEST_RESULTS, _MOST_RESULTS = 200, 20, 20_000
# After each the others have the database for so many times as long.
_PAUSE_TIMES = 2.0
# A call ends after this, whatever is left: another follows soon.
_CLEAR_FOR_S = 8.0


class ClearingService:
    """Deletes results whose files are written."""

    def __init__(
        self,
        results: ResultStore,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._results = results
        self._monotonic = monotonic
        self._pause = pause
        # How many are deleted by the next transaction: as many as took the time aimed at.
        self._limit = _FIRST_RESULTS

    def clear(self) -> None:
        """Delete what there is, transaction by transaction, until nothing is left or the time is over."""
        ends_at = self._monotonic() + _CLEAR_FOR_S
        while (began_at := self._monotonic()) < ends_at:
            if not self._results.clear(self._limit):
                return
            took_s = self._monotonic() - began_at
            # One that was kept waiting, or happened to be quick, says little by itself.
            factor = min(max(_AIM_S / max(took_s, 1e-6), 0.5), 1.5)
            self._limit = int(min(max(self._limit * factor, _FEWEST_RESULTS), _MOST_RESULTS))
            self._pause(_PAUSE_TIMES * took_s)
