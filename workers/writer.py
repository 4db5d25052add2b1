"""Group commit: one thread that records the results of all lines that came in within a moment in one transaction."""

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import structlog

from app.adapters.upstream.answer_memory import UNCOUNTED_BYTES, AnswerMemory
from app.domain.result import Result
from app.services.ports import Progress
from workers.line_run import LineRun
from workers.vital_thread import vital_thread

log = structlog.get_logger()

# A result waits this long for others. A commit costs about as much as 100 rows, so that fewer, larger ones win; more
# than this would be felt in a batch of a few lines.
_GATHER_S = 0.04
# Bounds one transaction: a few MB as a rule.
_MAX_ROWS = 2_000
_MAX_BYTES = 16 * 1024 * 1024
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 5.0
_STOP_WAIT_S = 10.0

_Item = tuple[LineRun, Result | None]


class ResultWriter:
    """Records results and settles their runs once they are committed.

    Args:
        record: records results in one transaction.
        on_progress: is told of what they came to.
        memory: what large answers share, from their first bytes until they are recorded.
    """

    def __init__(
        self,
        record: Callable[[Sequence[Result]], list[Progress]],
        on_progress: Callable[[list[Progress]], None],
        memory: AnswerMemory | None = None,
    ) -> None:
        self._record = record
        self._on_progress = on_progress
        self._memory = memory or AnswerMemory()
        self._items: SimpleQueue[_Item | None] = SimpleQueue()
        self._is_stopping = threading.Event()
        self._thread = vital_thread("writer", self._main)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, run: LineRun, result: Result | None) -> None:
        """Record a result, or settle a line that has none, from any thread."""
        if result is not None and len(result.payload) > UNCOUNTED_BYTES:
            self._memory.record_later(len(result.payload))
        self._items.put((run, result))

    def stop(self) -> None:
        """Record what is waiting, and end."""
        self._is_stopping.set()
        self._items.put(None)
        if self._thread.is_alive():
            self._thread.join(_STOP_WAIT_S)

    def _main(self) -> None:
        while True:
            item = self._items.get()
            if item is None:
                return
            items = self._gather(item)
            results = [result for _, result in items if result is not None]
            if results and not self._commit(results):
                return
            for run, result in items:
                if result is not None and len(result.payload) > UNCOUNTED_BYTES:
                    self._memory.recorded(len(result.payload))
                run.settle()

    def _gather(self, first: _Item) -> list[_Item]:
        items, size = [first], 0
        if first[1] is None:
            return items
        # One pause, then everything that is there: waking for each result would cost more than recording it.
        time.sleep(_GATHER_S)
        while len(items) < _MAX_ROWS and size < _MAX_BYTES:
            try:
                item = self._items.get_nowait()
            except Empty:
                break
            if item is None:
                self._items.put(None)
                break
            items.append(item)
            size += len(item[1].payload) if item[1] is not None else 0
        return items

    def _commit(self, results: list[Result]) -> bool:
        """Record results however long the database is away; False where this process ends before it is back."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                progress = self._record(results)
            except Exception:
                log.exception("results.not_recorded", results=len(results), pause_s=pause_s)
                if self._is_stopping.wait(pause_s):
                    return False
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                continue
            self._tell(progress)
            return True

    def _tell(self, progress: list[Progress]) -> None:
        try:
            self._on_progress(progress)
        except Exception:
            # What is told is a hint; beat looks by itself within a second.
            log.warning("progress.not_told", exc_info=True)
