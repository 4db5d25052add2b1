"""The lines of one task while this process runs them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from app.domain.retry import NO_TRIES, Tries
from app.services.ports import Answer
from workers.batches_in_hand import BatchInHand
from workers.lane import Lane


@dataclass(eq=False, slots=True)
class LineRun:
    """One task's lines; it is settled when each has its result committed or was dropped."""

    batch: BatchInHand
    left: int
    # The term of the lease in which the task was taken up.
    term: int = 0
    is_alone: bool = False
    is_given_back: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _settled: Callable[[], None] | None = None

    def on_settled(self, tell: Callable[[], None]) -> None:
        """Have `tell` called once all lines are settled, from any thread; now, where they are."""
        with self._lock:
            self._settled = tell
            is_over = self.left <= 0
        if is_over:
            tell()

    def settle(self) -> None:
        """Count one line; only the writer's thread does."""
        with self._lock:
            self.left -= 1
            tell = self._settled if self.left == 0 else None
        if tell is not None:
            tell()


@dataclass(eq=False, slots=True)
class Line:
    """One line on its way: its bytes, or where they are when it is too large to be held while it waits."""

    run: LineRun
    lane: Lane
    position: int
    offset: int
    length: int
    data: bytes | None = None
    tries: Tries = NO_TRIES
    # What its last call came to, where that was no result yet.
    met: Answer | None = None
    # How many of its calls were known when it was noted last what it met.
    noted_calls: int = 0
