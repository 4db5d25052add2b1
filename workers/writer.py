"""Group commit: one thread records all results of a short interval in one transaction."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

import structlog

from app.adapters.upstream.answer_memory import UNCOUNTED_BYTES, AnswerMemory
from app.domain.errors import StorageFull, Unavailable
from app.domain.result import Met, Result
from app.services.ports import Progress
from workers.line_run import LineRun
from workers.vital_thread import vital_thread

log = structlog.get_logger()

# The writer gathers results for this long before a commit. A commit costs about as much as 100 rows, so fewer and
# larger commits win; a longer wait would be felt in a batch of a few lines.
_GATHER_S = 0.04
# Bounds of one transaction, usually a few MB.
_MAX_ROWS = 2_000
_MAX_BYTES = 16 * 1024 * 1024
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 5.0
_STOP_WAIT_S = 10.0

# A result, a note of failed calls, or None to settle a line without them. The note of a waiting line has no run.
_Item = tuple[LineRun | None, "Result | _Noted | None"]


class _Noted(NamedTuple):
    batch_id: str
    position: int
    met: Met


class ResultWriter:
    """Records results, and settles their runs after the commit.

    Args:
        record: records results in one transaction.
        on_progress: called with the progress of the batches after a commit.
        memory: memory budget shared by large answers, from their first bytes until recorded.
        note: notes the failed calls of lines without a result, in one transaction.
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
        """Record a result, or settle a line without a result; thread-safe."""
        if result is not None and len(result.payload) > UNCOUNTED_BYTES:
            self._memory.record_later(len(result.payload))
        self._items.put((run, result))

    def leave(self, run: LineRun, position: int, met: Met) -> None:
        """Settle a line without a result, after noting its failed calls; thread-safe."""
        self._items.put((run, _Noted(run.batch.id, position, met)))

    def note(self, batch_id: str, position: int, met: Met) -> None:
        """Note the failed calls of a line that still waits; thread-safe."""
        self._items.put((None, _Noted(batch_id, position, met)))

    def stop(self) -> None:
        """Record the waiting results, and end the thread."""
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
            if not self._commit(items):
                return
            self._note_all(items)
            for run, result in items:
                if isinstance(result, Result) and len(result.payload) > UNCOUNTED_BYTES:
                    self._memory.recorded(len(result.payload))
                if run is not None:
                    run.settle()

    def _gather(self, first: _Item) -> list[_Item]:
        items = [first]
        if first[1] is not None:
            # Sleep once, then take all queued items: to wake up for every result would cost more than to record it.
            time.sleep(_GATHER_S)
            self._take_queued(items)
        return items

    def _take_queued(self, items: list[_Item]) -> None:
        """Add queued items, as many as fill a transaction."""
        rows, size = 1, 0
        while rows < _MAX_ROWS and size < _MAX_BYTES:
            try:
                item = self._items.get_nowait()
            except Empty:
                return
            if item is None:
                self._items.put(None)
                return
            items.append(item)
            rows += 1
            size += len(item[1].payload) if isinstance(item[1], Result) else 0

    def _commit(self, items: list[_Item]) -> bool:
        """Record results however long the database is away; False if this process ends before the database is back.

        A result that can't be recorded, though others can, is left out: its line has no result, and repair sends it.
        """
        pause_s = _FIRST_PAUSE_S
        while results := [result for _, result in items if isinstance(result, Result)]:
            try:
                failed = self._record_apart(results)
            except (StorageFull, Unavailable):
                log.exception("results.not_recorded", results=len(results), pause_s=pause_s)
            else:
                if len(failed) < len(results):
                    for result, fault in failed:
                        log.error("result.broke", batch_id=result.batch_id, position=result.position, exc_info=fault)
                    break
                log.error("results.not_recorded", results=len(results), pause_s=pause_s, exc_info=failed[0][1])
                # Results that came meanwhile tell whether the fault is in the results that failed.
                self._take_queued(items)
            if self._is_stopping.wait(pause_s):
                return False
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)
        return True

    def _record_apart(self, results: Sequence[Result]) -> list[tuple[Result, Exception]]:
        """Record results together, or after a fault each half by itself; return the results that fail alone."""
        try:
            progress = self._record(results)
        except (StorageFull, Unavailable):
            raise
        except Exception as fault:
            if len(results) == 1:
                return [(results[0], fault)]
            half = len(results) // 2
            return self._record_apart(results[:half]) + self._record_apart(results[half:])
        self._tell(progress)
        return []

    def _note_all(self, items: list[_Item]) -> None:
        met = {(noted.batch_id, noted.position): noted.met for _, noted in items if isinstance(noted, _Noted)}
        if not met:
            return
        try:
            self._note(met)
        except Exception:
            # No retry: notes only give the reason in an expired line's error, and must not delay results.
            log.warning("tries.not_noted", lines=len(met), exc_info=True)

    def _tell(self, progress: list[Progress]) -> None:
        try:
            self._on_progress(progress)
        except Exception:
            # The progress is only a hint: beat itself looks within a second.
            log.warning("progress.not_told", exc_info=True)
