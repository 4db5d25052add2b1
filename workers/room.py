"""How many lines of one upstream this process has taken, and when there is room for more."""

import threading
from collections.abc import Callable

# Lines taken for each call that may be in flight: enough to start one the moment another ends.
_LINES_PER_SLOT = 2
# As many lines more are taken beside a batch whose lines hang: its lines that wait must not keep other batches out.
_LINES_PER_SLOT_BESIDE = 1
# A fast upstream answers that many in no time: what it answers in this span may be taken as well.
_LINES_S = 0.1
# Messages taken for each such call: at one line a task, those of lines in flight and those of lines that wait out their
# pauses. Three times what dispatch hands out for each call (`app.services.sharing`), for workers get unequal parts of
# it. Each upstream has its own, so that one that is away leaves the others' theirs.
MESSAGES_PER_SLOT = 32


class Room:
    """Counts lines and says when there is room for another task; safe to use from any thread.

    A message is one task of any number of lines, and only the first of those counts for Celery. This counts the
    second, so that a worker never hoards lines that an idle one could run.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._limit = _LINES_PER_SLOT * slots
        self._lines_per_s = 0.0
        self._lock = threading.Lock()
        self._lines = 0
        self._last_lines = 1
        self._tasks = 0
        self._is_closed = False
        self._is_wide = False
        self._wake: Callable[[], None] | None = None

    def on_room(self, wake: Callable[[], None] | None) -> None:
        """Have `wake` called, from any thread, whenever room comes up."""
        self._wake = wake

    def take(self, lines: int) -> None:
        """Count the lines of a task that was received."""
        with self._lock:
            self._lines += lines
            self._last_lines = max(lines, 1)
            self._tasks += 1

    def task_done(self) -> None:
        """Count a task that ended, whose message is acknowledged or given back."""
        with self._lock:
            self._tasks -= 1
            has_come_up = self._tasks == MESSAGES_PER_SLOT * self._slots - 1
        if has_come_up:
            self._tell()

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
        """Count lines of a task that are not run at all, or not for this upstream."""
        with self._lock:
            was_full = self._lines >= self._limit
            self._lines -= lines
            has_come_up = was_full and self._lines < self._limit
        if has_come_up:
            self._tell()

    def set_slots(self, slots: int) -> None:
        """Adjust to how many calls may be in flight."""
        self._slots = slots
        self._adjust()

    def set_pace(self, lines_per_s: float) -> None:
        """Adjust to how fast lines get done."""
        self._lines_per_s = lines_per_s
        self._adjust()

    def set_wide(self, *, is_wide: bool) -> None:
        """Take more lines, since the lines of a batch hang; or as many as usual."""
        if is_wide is not self._is_wide:
            self._is_wide = is_wide
            self._adjust()

    def close(self, *, is_closed: bool) -> None:
        """Take nothing more, or take lines again."""
        was_closed, self._is_closed = self._is_closed, is_closed
        if was_closed and not is_closed:
            self._tell()

    def tasks_wanted(self) -> int:
        """Return how many more tasks may be taken, were each as large as the last one."""
        if self._is_closed:
            return 0
        by_lines = -(-(self._limit - self._lines) // self._last_lines)
        return min(by_lines, MESSAGES_PER_SLOT * self._slots - self._tasks)

    def _adjust(self) -> None:
        with self._lock:
            was_full = self._lines >= self._limit
            lines_per_slot = _LINES_PER_SLOT + _LINES_PER_SLOT_BESIDE * self._is_wide
            self._limit = max(lines_per_slot * self._slots, int(_LINES_S * self._lines_per_s))
            has_come_up = was_full and self._lines < self._limit
        if has_come_up:
            self._tell()

    def _tell(self) -> None:
        if self._wake is not None:
            self._wake()
