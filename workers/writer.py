"""Group commit: one thread that records the results of all lines that came in within a moment in one transaction."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

import structlog

from app.adapters.upstream.answer_memory import UNCOUNTED_BYTES, AnswerMemory
from app.domain.result import Met, Result
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

# A line's result, what one without a result met, or nothing. What is noted of a line that still waits settles no run.
_Item = tuple[LineRun | None, "Result | _Noted | None"]


class _Noted(NamedTuple):
    batch_id: str
    position: int
    met: Met


class ResultWriter:
    """Records results and settles their runs once they are committed.

    Args:
        record: records results in one transaction.
        on_progress: is told of what they came to.
        memory: what large answers share, from their first bytes until they are recorded.
        note: notes what lines without a result met, in one transaction.
    """

    def __init__(
        self,
        record: Callable[[Sequence[Result]], list[Progress]],
        on_progress: Callable[[list[Progress]], None],
        memory: AnswerMemory | None = None,
        note: Callable[[Mapping[tuple[str, int], Met]], None] = lambda met: None,
    ) -> None:
        self._record = record
        self._on_progress = on_progress
        self._memory = memory or AnswerMemory()
        self._note = note
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

    def leave(self, run: LineRun, position: int, met: Met) -> None:
        """Settle a line that has no result, once it is noted what it met; from any thread."""
        self._items.put((run, _Noted(run.batch.id, position, met)))

    def note(self, batch_id: str, position: int, met: Met) -> None:
        """Note what a line met that still waits; from any thread."""
        self._items.put((None, _Noted(batch_id, position, met)))

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
            results = [result for _, result in items if isinstance(result, Result)]
            if results and not self._commit(results):
                return
            self._note_all(items)
            for run, result in items:
                if isinstance(result, Result) and len(result.payload) > UNCOUNTED_BYTES:
                    self._memory.recorded(len(result.payload))
                if run is not None:
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
            size += len(item[1].payload) if isinstance(item[1], Result) else 0
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

    def _note_all(self, items: list[_Item]) -> None:
        met = {(noted.batch_id, noted.position): noted.met for _, noted in items if isinstance(noted, _Noted)}
        if not met:
            return
        try:
            self._note(met)
        except Exception:
            # The reason that an expired line gives is not worth holding up what else is to be recorded.
            log.warning("tries.not_noted", lines=len(met), exc_info=True)

    def _tell(self, progress: list[Progress]) -> None:
        try:
            self._on_progress(progress)
        except Exception:
            # What is told is a hint; beat looks by itself within a second.
            log.warning("progress.not_told", exc_info=True)
