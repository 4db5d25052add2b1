"""Handles bytes a worker can't read: logs once for many lines, and asks for the validation that mends the batch."""

import threading
import time
from collections.abc import Callable

import structlog

from app.domain.errors import BlobMissing
from app.services.ports import Queue

log = structlog.get_logger()

# Interval between requests for a batch: its tasks come back every few seconds until the batch is mended or ends.
_ASK_EVERY_S = 5.0
# Number of remembered batches; with more batches, some requests come sooner, which does no harm.
_MOST_REMEMBERED = 1_000
# Interval between log lines about a silent storage or database: every task of every batch meets the fault.
_TELL_EVERY_S = 10.0


class MissingBlobs:
    """Takes note of unreadable bytes."""

    def __init__(self, queue: Queue, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asked_at: dict[str, float] = {}
        self._told_at = float("-inf")
        self._untold = 0

    def note(self, batch_id: str, fault: Exception) -> None:
        """Take note of a fault in reading a batch's bytes; a fault of `note` itself is logged, not raised."""
        if not isinstance(fault, BlobMissing):
            self._tell_away(fault)
            return
        if not self._is_to_be_asked(batch_id):
            return
        log.warning("blob.missing", batch_id=batch_id, error=str(fault))
        try:
            self._queue.validate(batch_id)
        except Exception as trouble:  # the next task with the fault asks again
            self._tell_away(trouble)

    def _is_to_be_asked(self, batch_id: str) -> bool:
        with self._lock:
            now = self._monotonic()
            if now - self._asked_at.get(batch_id, float("-inf")) < _ASK_EVERY_S:
                return False
            if len(self._asked_at) >= _MOST_REMEMBERED:
                self._asked_at.clear()
            self._asked_at[batch_id] = now
            return True

    def _tell_away(self, fault: Exception) -> None:
        with self._lock:
            now = self._monotonic()
            self._untold += 1
            if now - self._told_at < _TELL_EVERY_S:
                return
            self._told_at, times, self._untold = now, self._untold, 0
        log.warning("lines.unread", error=str(fault), times=times)
