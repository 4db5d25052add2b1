"""Dispatch: keep a window of lines before the workers, taken from all running batches in turn."""

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace

import structlog

from app.domain.batch import Batch
from app.domain.errors import Unavailable
from app.domain.lifecycle import Status
from app.domain.plan import task_span
from app.services.ports import BatchStore, Clock, Delivery, LineTask, Queue, Roster, WorkerState

log = structlog.get_logger()

# Lines published and not done, for each call that the workers can have in flight.
_WINDOW_PER_SLOT = 4
# A fast upstream empties that in no time: the window also holds this much of what was done lately.
_WINDOW_S = 0.6
# Bounds what the broker holds (about 1.3 kB a task) at one line a task.
_MAX_WINDOW = 20_000
# Before a worker reports, a first helping waits for it.
_WINDOW_WITHOUT_WORKERS = 256
# More batches than this run one after the other, nearest deadline first.
_MAX_RUNNING = 200
# Longer than a refill takes; a holder that died is waited for no longer.
_LOCK_S = 10.0


class DispatchService:
    """Hands the lines of running batches to the queue, and stops handing them out."""

    def __init__(self, batches: BatchStore, queue: Queue, roster: Roster, clock: Clock) -> None:
        self._batches = batches
        self._queue = queue
        self._roster = roster
        self._clock = clock

    def refill(self) -> int:
        """Publish what the window has room for; return the number of tasks."""
        with self._roster.lock("dispatch", _LOCK_S) as is_held:
            if not is_held:
                return 0
            running = self._batches.active(_MAX_RUNNING, {Status.IN_PROGRESS})
            window = window_lines(self._roster.workers())
            return sum(self._publish(batch, to_task) for batch, to_task in _share_out(running, window))

    def close(self, batch_id: str) -> None:
        """End a batch that was cancelled or whose window elapsed, once what was published has returned."""
        batch = self._batches.find(batch_id)
        if batch is None or batch.status not in (Status.CANCELLING, Status.EXPIRING):
            return
        if batch.lines_outstanding == 0:
            self._queue.finalize(batch_id)
        else:
            self._queue.close_chord(batch_id, batch.tasks_dispatched, batch.tasks)

    def _publish(self, batch: Batch, to_task: int) -> int:
        # The cursor is committed before the messages go: a crash between the two leaves tasks that upkeep finds lost,
        # never messages for tasks that the database does not know of.
        decided_at = self._clock.now()
        if not self._batches.move_cursor(batch.id, batch.tasks_dispatched, to_task):
            return 0
        tasks = line_tasks(batch, range(batch.tasks_dispatched, to_task))
        try:
            if batch.tasks_dispatched == 0:
                self._queue.open_chord(batch.id, batch.tasks)
            self._queue.publish_lines(batch.id, tasks, Delivery.FIRST, decided_at)
        except Unavailable:
            log.warning("dispatch.failed", batch_id=batch.id, tasks=len(tasks), exc_info=True)
        return len(tasks)


def window_lines(workers: Sequence[WorkerState]) -> int:
    """Return how many lines are to be published and not done, for these workers together."""
    if not workers:
        return _WINDOW_WITHOUT_WORKERS
    slots = sum(worker.concurrency for worker in workers)
    lines_per_s = sum(worker.lines_per_s for worker in workers)
    # Lines that wait to be tried again take no call from the others.
    lines_paused = sum(worker.lines_paused for worker in workers)
    return int(min(max(_WINDOW_PER_SLOT * slots, _WINDOW_S * lines_per_s) + lines_paused, _MAX_WINDOW))


def is_refill_due(outstanding: int, window: int) -> bool:
    """Return whether half of the window is free: fewer, larger refills than at each line."""
    return outstanding * 2 <= window


def line_tasks(batch: Batch, numbers: range | list[int]) -> list[LineTask]:
    """Return the tasks with these numbers."""
    return [LineTask(number, *task_span(number, batch.lines_per_task, batch.total)) for number in numbers]


def _share_out(running: list[Batch], window: int) -> list[tuple[Batch, int]]:
    """Give tasks to the batch that has the fewest lines before the workers, in turn; return up to which task each goes.

    The window is filled when half of it is free. Beside that each batch may have its share of it whatever the others
    have: one whose lines all wait to be tried again does not keep the window from the rest. Lines are counted, not
    tasks: a small batch is not held up by one whose tasks are larger than the window. Of equals the nearest deadline is
    first.
    """
    outstanding = sum(batch.lines_outstanding for batch in running)
    room = window - outstanding if is_refill_due(outstanding, window) else 0
    share = window // max(len(running), 1)
    waiting = [batch for batch in running if batch.tasks_dispatched < batch.tasks]
    cursor = {batch.id: batch.tasks_dispatched for batch in waiting}
    turns = [(batch.lines_outstanding, order) for order, batch in enumerate(waiting)]
    heapify(turns)
    while turns and (room > 0 or turns[0][0] * 2 < share):
        lines, order = turns[0]
        batch = waiting[order]
        cursor[batch.id] += 1
        room -= batch.lines_per_task
        if cursor[batch.id] < batch.tasks:
            heapreplace(turns, (lines + batch.lines_per_task, order))
        else:
            heappop(turns)
    return [(batch, cursor[batch.id]) for batch in waiting if cursor[batch.id] > batch.tasks_dispatched]
