"""What this process has taken from the queue: the tasks it holds, and how many of their lines wait or run."""

import threading
from collections.abc import Callable

# Lines taken for each call that may be in flight: enough to start one the moment another ends.
_LINES_PER_SLOT = 2
# A fast upstream answers that many in no time: what it answers in this span may be taken as well.
_LINES_S = 0.1


class Taken:
    """Counts tasks and lines; says when there is room for another task.

    A message is one task of any number of lines, and only the first of those counts for Celery. This counts the
    second, so that a worker never hoards lines that an idle one could run.
    """

    def __init__(self, concurrency: int) -> None:
        self._floor = self._limit = _LINES_PER_SLOT * concurrency
        self._lock = threading.Lock()
        # Copies of each: a message may be delivered twice.
        self._tasks: dict[str, int] = {}
        # The term of the lease in which each was received last.
        self._terms: dict[str, int] = {}
        # Those of which one copy was begun.
        self._begun: set[str] = set()
        self._lines = 0
        self._last_lines = 1
        self._wake: Callable[[], None] | None = None

    def on_room(self, wake: Callable[[], None] | None) -> None:
        """Have `wake` called, from any thread, whenever room comes up."""
        self._wake = wake

    def add(self, task_id: str, lines: int, term: int = 0) -> None:
        """Count a task that was received in this term of the process's lease."""
        with self._lock:
            self._terms[task_id] = term
            self._tasks[task_id] = self._tasks.get(task_id, 0) + 1
            self._lines += lines
            self._last_lines = max(lines, 1)

    def begin(self, task_id: str) -> int | None:
        """Return the term in which a task that begins was received; None where a copy of it has begun, or none is held.

        The first copy to begin is the one that runs, as long as this process holds any.
        """
        with self._lock:
            if task_id in self._begun or task_id not in self._tasks:
                return None
            self._begun.add(task_id)
            return self._terms[task_id]

    def line_done(self) -> None:
        """Count a line that waits for nothing but its commit, or to be tried again: both leave room for others."""
        with self._lock:
            self._lines -= 1
            has_come_up = self._lines == self._limit - 1
        if has_come_up:
            self._tell()

    def line_resumed(self) -> None:
        """Count a line again whose pause is over."""
        with self._lock:
            self._lines += 1

    def lines_skipped(self, lines: int) -> None:
        """Count lines of a task that are not run at all."""
        with self._lock:
            was_full = self._lines >= self._limit
            self._lines -= lines
            has_come_up = was_full and self._lines < self._limit
        if has_come_up:
            self._tell()

    def remove(self, task_id: str) -> None:
        """Forget a task that ended."""
        with self._lock:
            copies = self._tasks.pop(task_id, 0)
            if copies > 1:
                self._tasks[task_id] = copies - 1
            else:
                self._terms.pop(task_id, None)
                self._begun.discard(task_id)

    def set_pace(self, lines_per_s: float) -> None:
        """Adjust the limit to how fast lines get done."""
        self._limit = max(self._floor, int(_LINES_S * lines_per_s))

    def room(self) -> int:
        """Return how many more tasks may be taken, were each as large as the last one."""
        return -(-(self._limit - self._lines) // self._last_lines)

    def task_ids(self) -> tuple[str, ...]:
        """Return the ids of the tasks held."""
        with self._lock:
            return tuple(self._tasks)

    def _tell(self) -> None:
        if self._wake is not None:
            self._wake()
