"""Watches from a thread whether ticks are done, and logs a change."""

import threading
import time
from collections.abc import Callable

import structlog

from app.domain.errors import Unavailable
from app.services.ports import TickStore
from app.services.ticks import SILENT_S, TickWatch, explain_silence, watched_at_once

log = structlog.get_logger()

_LOOK_EVERY_S = 2.0
# For a short look: counts move each second, on a busy machine somewhat later.
_SHORT_LOOK_S = 6.0
_SHORT_LOOK_EVERY_S = 0.25


class TickWatcher:
    """Looks every 2 s for as long as the process lives."""

    def __init__(self, store: TickStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._watch = TickWatch(store, monotonic)
        self._silent: set[str] = set()
        self._told: set[str] = set()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._main, name="tick-watch", daemon=True).start()

    def check(self) -> None:
        """Raise Unavailable if ticks are not done; a database that is away is no fault of the ticks."""
        if self._silent:
            raise Unavailable(explain_silence(self._silent, SILENT_S))

    def look(self) -> None:
        """Look once, and log a change."""
        before = self._silent
        try:
            self._silent = self._watch.silent()
        except Exception:
            # The check of the database tells the reason.
            self._silent = set()
            return
        if self._silent - before:
            log.error("ticks.silent", reason=explain_silence(self._silent, SILENT_S))
        elif before and not self._silent:
            log.info("ticks.again")

    def tell(self, say: Callable[[str], None]) -> None:
        """Say once which ticks are silent, and once that all ticks are done again."""
        silent = set(self._silent)
        if silent - self._told:
            say(f"Warning: {explain_silence(silent, SILENT_S)}.")
        elif self._told and not silent:
            say("All ticks are done again.")
        self._told = silent

    def _main(self) -> None:
        while True:
            self.look()
            time.sleep(_LOOK_EVERY_S)


def check_ticks(store: TickStore, within_s: float = _SHORT_LOOK_S) -> None:
    """Look for `within_s` seconds; Unavailable if a count did not move."""
    try:
        before, waits_for = store.done(), watched_at_once()
        until = time.monotonic() + within_s
        while waits_for and time.monotonic() < until:
            time.sleep(_SHORT_LOOK_EVERY_S)
            done = store.done()
            waits_for = {kind for kind in waits_for if done.get(kind, 0) == before.get(kind, 0)}
    except Exception:
        raise Unavailable("can't be seen, for the database does not tell") from None
    if waits_for:
        raise Unavailable(explain_silence(waits_for, within_s))
