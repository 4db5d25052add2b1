"""Turns at validating: so many at once in a process, and no thread that waits for one."""

import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class ValidationTurns:
    """Validates the batches that it is given, some at once and the others after them.

    Args:
        validate: checks one batch.
        at_once: how many are checked side by side.
        is_ending: whether the process ends; those that wait by then are left to upkeep, which asks again.
    """

    def __init__(self, validate: Callable[[str], object], at_once: int, is_ending: Callable[[], bool]) -> None:
        self._validate = validate
        self._at_once = at_once
        self._is_ending = is_ending
        self._lock = threading.Lock()
        # In the order they came.
        self._waiting: dict[str, None] = {}
        self._running: set[str] = set()

    def take(self, batch_id: str) -> None:
        """Have it done by this thread, or by one that has a turn: where all turns are taken this returns at once."""
        with self._lock:
            # Upkeep asks again for a batch that waits, and keeps its place by it.
            if batch_id not in self._running:
                self._waiting[batch_id] = None
        while (due := self._next()) is not None:
            try:
                self._validate(due)
            except Exception:
                # The thread has the turn for those that wait, whatever became of this one.
                log.exception("validation.broke", batch_id=due)
            finally:
                with self._lock:
                    self._running.remove(due)

    def _next(self) -> str | None:
        with self._lock:
            if not self._waiting or len(self._running) >= self._at_once or self._is_ending():
                return None
            batch_id = next(iter(self._waiting))
            del self._waiting[batch_id]
            self._running.add(batch_id)
            return batch_id
