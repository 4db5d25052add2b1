"""Clearing: delete the results of ended batches, in the time that recording leaves."""

import time
from collections.abc import Callable

from app.services.ports import ResultStore

# Results are recorded meanwhile, and SQLite runs transactions one by one. A transaction therefore aims at this time,
# and deletes as many results as fit.
_AIM_S = 0.02
_FIRST_RESULTS, _FEWEST_RESULTS, _MOST_RESULTS = 200, 20, 20_000
# After a transaction, the database is left to recording for this many times as long.
_PAUSE_TIMES = 2.0
# A call ends after this time, even with results left: the next call follows soon.
_CLEAR_FOR_S = 8.0


class ClearingService:
    """Deletes results once the files are written."""

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
        # The number of results for the next transaction, from the time that earlier transactions took.
        self._limit = _FIRST_RESULTS

    def clear(self) -> None:
        """Delete results, transaction by transaction, until no result is left or the time is over."""
        ends_at = self._monotonic() + _CLEAR_FOR_S
        while (began_at := self._monotonic()) < ends_at:
            if not self._results.clear(self._limit):
                return
            took_s = self._monotonic() - began_at
            # A single transaction that was kept waiting, or happened to be quick, says little.
            factor = min(max(_AIM_S / max(took_s, 1e-6), 0.5), 1.5)
            self._limit = int(min(max(self._limit * factor, _FEWEST_RESULTS), _MOST_RESULTS))
            self._pause(_PAUSE_TIMES * took_s)
