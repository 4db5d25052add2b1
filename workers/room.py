"""The prefetch limit of one upstream: how many lines this process has taken, and whether more lines fit."""

import threading
from collections.abc import Callable

# Lines taken for a call slot: enough to start a line the moment a call ends.
_LINES_PER_SLOT = 2
# Further lines taken for a call slot while a batch hangs: waiting lines of the batch must not keep out other batches.
_LINES_PER_SLOT_BESIDE = 1
# A fast upstream soon answers the lines above, so as many lines as are answered in this time may be taken.
_LINES_S = 0.1
# Messages taken for a call slot: at one line a task, the messages of lines in flight and of lines paused for a retry.
# Three times the lines that dispatch publishes for a call (`app.services.sharing`), since workers get unequal parts.
# Every upstream has a separate limit, so an upstream that is away leaves the limits of the others untouched.
MESSAGES_PER_SLOT = 32


class Room:
    """Counts lines and says when there is room for another task; thread-safe.

    A message is a task of many lines. Celery's prefetch counts messages; `Room` counts lines, so a worker never hoards
    lines that an idle worker could run.
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
        """Call `wake`, from whichever thread, whenever room comes up."""
        self._wake = wake

    def take(self, lines: int) -> None:
        """Count the lines of a received task."""
        with self._lock:
            self._lines += lines
            self._last_lines = max(lines, 1)
            self._tasks += 1

    def task_done(self) -> None:
        """Count a task as ended, with its message acknowledged or given back."""
        with self._lock:
            self._tasks -= 1
            has_come_up = self._tasks == MESSAGES_PER_SLOT * self._slots - 1
        if has_come_up:
            self._tell()

    def line_done(self) -> None:
        """Count a line as waiting for its commit or a retry: a waiting line leaves room for other lines."""
        with self._lock:
            self._lines -= 1
            has_come_up = self._lines == self._limit - 1
        if has_come_up:
            self._tell()

    def line_resumed(self) -> None:
        """Count a line again after its pause."""
        with self._lock:
            self._lines += 1

    def lines_skipped(self, lines: int) -> None:
        """Count lines of a task as never run, or not run for this upstream."""
        with self._lock:
            was_full = self._lines >= self._limit
            self._lines -= lines
            has_come_up = was_full and self._lines < self._limit
        if has_come_up:
            self._tell()

    def set_slots(self, slots: int) -> None:
        """Set how many calls may be in flight."""
        self._slots = slots
        self._adjust()

    def set_pace(self, lines_per_s: float) -> None:
        """Set how many lines get done each second."""
        self._lines_per_s = lines_per_s
        self._adjust()

    def set_wide(self, *, is_wide: bool) -> None:
        """Take more lines while a batch hangs, or the usual number."""
        if is_wide is not self._is_wide:
            self._is_wide = is_wide
            self._adjust()

    def close(self, *, is_closed: bool) -> None:
        """Stop or resume taking lines."""
        was_closed, self._is_closed = self._is_closed, is_closed
        if was_closed and not is_closed:
            self._tell()

    def tasks_wanted(self) -> int:
        """Return how many more tasks as large as the last may be taken."""
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
