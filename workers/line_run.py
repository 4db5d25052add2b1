"""The lines of one task while this process runs them."""

import threading
from dataclasses import dataclass, field

from app.domain.retry import NO_TRIES, Tries
from workers.batches_in_hand import BatchInHand


@dataclass(eq=False, slots=True)
class LineRun:
    """One task's lines; `done` is set when each has its result committed or was dropped."""

    batch: BatchInHand
    left: int
    # The term of the lease in which the task was taken up.
    term: int = 0
    is_alone: bool = False
    is_given_back: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def settle(self) -> None:
        """Count one line; only the writer's thread does."""
        self.left -= 1
        if self.left <= 0:
            self.done.set()


@dataclass(eq=False, slots=True)
class Line:
    """One line on its way: its bytes, or where they are when it is too large to be held while it waits."""

    run: LineRun
    position: int
    offset: int
    length: int
    data: bytes | None = None
    tries: Tries = NO_TRIES
