"""A line task and its lines while this process runs the task."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from app.domain.retry import NO_TRIES, Tries
from app.services.ports import Answer
from workers.batches_in_hand import BatchInHand
from workers.lane import Lane


@dataclass(eq=False, slots=True)
class LineRun:
    """A running line task; settled once every line has its result committed or was dropped."""

    batch: BatchInHand
    left: int
    # Lease term in which the task was received.
    term: int = 0
    is_alone: bool = False
    is_given_back: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _settled: Callable[[], None] | None = None

    def on_settled(self, tell: Callable[[], None]) -> None:
        """Register `tell`, called from the settling thread after the last line; call `tell` now if no line is left."""
        with self._lock:
            self._settled = tell
            is_over = self.left <= 0
        if is_over:
            tell()

    def settle(self) -> None:
        """Count a settled line; only the writer's thread calls `settle`."""
        with self._lock:
            self.left -= 1
            tell = self._settled if self.left == 0 else None
        if tell is not None:
            tell()


@dataclass(eq=False, slots=True)
class Line:
    """A line to run, with its bytes; a large line has only the place of the bytes in the input while the line waits."""

    run: LineRun
    lane: Lane
    position: int
    offset: int
    length: int
    data: bytes | None = None
    tries: Tries = NO_TRIES
    # Answer to the last call, while the line has no result.
    met: Answer | None = None
    # Number of calls when the line's failed calls were last noted in the database.
    noted_calls: int = 0
