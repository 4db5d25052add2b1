"""Dispatch: keep a window of lines before the workers, shared out fairly among all running batches."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import structlog

from app.domain import fairness
from app.domain.batch import Batch
from app.domain.errors import StorageFull, Unavailable
from app.domain.fairness import Weights
from app.domain.lifecycle import Status
from app.domain.plan import task_span
from app.services.ports import BatchStore, Clock, Delivery, LineTask, Queue, Roster, WorkerState
from app.services.sharing import SharingService, window_of

log = structlog.get_logger()

# The messages wait in one line, and whoever always goes first in it waits less, so that it gets more done than its part
# of the window: 3 to 1 came out as 2.4 to 1. So a refill goes out in pieces, and in each the batches come in any order.
_PIECES = 4
# Longer than a refill takes; a holder that died is waited for no longer.
_LOCK_S = 10.0


class DispatchService:
    """Hands the lines of running batches to the queue, and stops handing them out."""

    def __init__(
        self, batches: BatchStore, queue: Queue, roster: Roster, clock: Clock, weights: Weights | None = None
    ) -> None:
        self._batches = batches
        self._queue = queue
        self._roster = roster
        self._clock = clock
        self._sharing = SharingService(batches, roster, clock, weights or Weights())

    def refill(self) -> int:
        """Publish what the window has room for; return the number of tasks."""
        with self._roster.lock("dispatch", _LOCK_S) as is_held:
            if not is_held:
                return 0
            decided_at = self._clock.now()
            seen = self._sharing.look()
            turns = [turn.batch_id for turn in seen.sharing.turns() for _ in range(turn.tasks)]
            tasks = Counter(turns)
            moved = self._move([batch for batch in seen.batches if batch.id in tasks], tasks)
            pieces = _in_pieces([batch_id for batch_id in turns if batch_id in moved], seen.sharing.new)
            self._publish(moved, pieces, decided_at)
            return sum(tasks[batch_id] for batch_id in moved)

    def close(self, batch_id: str) -> None:
        """End a batch that was cancelled or whose window elapsed, once what was published has returned."""
        batch = self._batches.find(batch_id)
        if batch is None or batch.status not in (Status.CANCELLING, Status.EXPIRING):
            return
        if batch.lines_outstanding == 0:
            self._queue.finalize(batch_id)
        else:
            self._queue.close_chord(batch_id, batch.tasks_dispatched, batch.tasks)

    def _move(self, batches: Iterable[Batch], tasks: Counter[str]) -> dict[str, Batch]:
        """Count so many more tasks of each batch as handed out; return by id the batches of which that is true."""
        # The cursor is committed before the messages go: a crash between the two leaves tasks that upkeep finds lost,
        # never messages for tasks that the database does not know of.
        moved: dict[str, Batch] = {}
        for batch in batches:
            count = tasks[batch.id]
            try:
                if self._batches.move_cursor(batch.id, batch.tasks_dispatched, batch.tasks_dispatched + count):
                    moved[batch.id] = batch
            except (StorageFull, Unavailable):
                # What was moved is to be sent now. Each that follows could wait as long for the database as this one.
                log.warning("dispatch.failed", batch_id=batch.id, tasks=count, exc_info=True)
                break
        return moved

    def _publish(self, batches: dict[str, Batch], pieces: Iterable[tuple[str, int]], decided_at: float) -> None:
        """Send so many of the next tasks of each batch."""
        cursors = {batch_id: batch.tasks_dispatched for batch_id, batch in batches.items()}
        unsent: set[str] = set()
        for batch_id, count in pieces:
            batch, first = batches[batch_id], cursors[batch_id]
            cursors[batch_id] += count
            if batch_id in unsent:
                continue
            try:
                if first == 0:
                    self._queue.open_chord(batch_id, batch.tasks)
                tasks = line_tasks(batch, range(first, first + count))
                self._queue.publish_lines(batch_id, tasks, Delivery.FIRST, decided_at)
            except Unavailable:
                unsent.add(batch_id)
                log.warning("dispatch.failed", batch_id=batch_id, tasks=count, exc_info=True)


def window_lines(workers: Sequence[WorkerState]) -> int:
    """Return how many lines are to be published and not done, for these workers together."""
    return window_of(workers).lines


def is_refill_due(outstanding: int, window: int) -> bool:
    """Return whether enough of the window is free to fill it again."""
    return fairness.is_due(outstanding, window)


def line_tasks(batch: Batch, numbers: range | list[int]) -> list[LineTask]:
    """Return the tasks with these numbers."""
    return [LineTask(number, *task_span(number, batch.lines_per_task, batch.total)) for number in numbers]


def _in_pieces(turns: list[str], new: set[str]) -> Iterator[tuple[str, int]]:
    """Yield batches and how many of their tasks to send together; a batch comes again in each piece of the turns."""
    size = max(-(-len(turns) // _PIECES), 1)
    for start in range(0, len(turns), size):
        counts = Counter(turns[start : start + size])
        others = [batch_id for batch_id in counts if batch_id not in new]
        random.shuffle(others)
        for batch_id in (*(each for each in counts if each in new), *others):
            yield batch_id, counts[batch_id]
