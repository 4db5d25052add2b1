"""Notes the last use of API keys, in the background and never in a request."""

import threading
from collections.abc import Callable, Mapping

import structlog

from app.services.ports import Clock

log = structlog.get_logger()

_EVERY_S = 30.0
# A process that ends has a few seconds in all, and the database may be away.
_LAST_WRITE_S = 2.0


class KeyUses:
    """Collects uses of keys, and writes the uses in a separate thread, which starts at the first use.

    Args:
        write: stores the last use of keys by id, in seconds since 1970.
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
        """Note a use of a key now; safe to call from any thread."""
        with self._lock:
            self._uses[key_id] = self._clock.now()
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="key-uses", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Write the waiting uses, and end the thread; waits 2 s at most."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_LAST_WRITE_S)

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
            # The next use of the key will be written again.
            log.warning("key.uses_not_written", keys=len(uses), exc_info=True)
