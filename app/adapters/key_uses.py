"""When API keys were used last, written once a minute and never by a request."""

import threading
from collections.abc import Callable, Mapping

import structlog

from app.services.ports import Clock

log = structlog.get_logger()

_EVERY_S = 30.0


class KeyUses:
    """Collects uses of keys, and writes them from a thread of its own that the first use starts.

    Args:
        write: stores the last use of keys by their ids, in seconds since 1970.
        clock: the time of day.
        every_s: how long uses are collected.
    """

    def __init__(
        self, write: Callable[[Mapping[str, float]], None], clock: Clock, *, every_s: float = _EVERY_S
    ) -> None:
        self._write = write
        self._clock = clock
        self._every_s = every_s
        self._uses: dict[str, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def note(self, key_id: str) -> None:
        """Remember that a key was used now; from any thread."""
        with self._lock:
            self._uses[key_id] = self._clock.now()
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="key-uses", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Write the uses that wait, and end the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(self._every_s)

    def _main(self) -> None:
        while True:
            is_stopping = self._stopping.wait(self._every_s)
            self._flush()
            if is_stopping:
                return

    def _flush(self) -> None:
        with self._lock:
            uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            self._write(uses)
        except Exception:
            # The next use of each key says it again.
            log.warning("key.uses_not_written", keys=len(uses), exc_info=True)
