"""Repair: find lost line tasks, and send them again.

A task is lost if, for some seconds, results are missing and the task is in no queue and in no live worker's report.
"""

from collections.abc import Collection, Sequence
from itertools import islice

import structlog

from app.domain import ids
from app.domain.batch import InFlight
from app.services.dispatch import line_tasks
from app.services.lost_tasks import LostTasks
from app.services.open_tasks import OpenTasks
from app.services.ports import BatchStore, Clock, Delivery, Queue, ResultStore, Roster

log = structlog.get_logger()

# Longer than a look takes; nobody waits longer for a holder that died.
_LOCK_S = 10.0
# The seconds for a look to read which lines lack results, and the seconds for a look to begin sending. When the time is
# over, the next look begins with the batches that the last look did not reach.
_READ_FOR_S = 1.5
_SEND_FOR_S = 6.0
_BATCHES_AT_ONCE = 200
# A task lost with more workers than this may be the cause of the deaths.
_LOSSES_BEFORE_ALONE = 2
# Workers together hold no more messages than dispatch publishes.
_UNACKED_PER_LOOK = 25_000


class RepairService:
    """Sends lost line tasks again."""

    def __init__(
        self,
        batches: BatchStore,
        results: ResultStore,
        queue: Queue,
        roster: Roster,
        clock: Clock,
        upstreams: Collection[str],
    ) -> None:
        self._batches = batches
        self._queue = queue
        self._roster = roster
        self._lost = LostTasks(roster, clock)
        self._open = OpenTasks(results, upstreams)
        self._monotonic = clock.monotonic
        # The first batch that the last look did not reach.
        self._begin_with: str | None = None

    def repair(self) -> None:
        """Look once, unless another process is looking."""
        with self._roster.lock("repair", _LOCK_S) as is_held:
            if is_held:
                self._look()

    def _look(self) -> None:
        began_at = self._monotonic()
        # The queue is read before the workers: a task that moves from the queue to a worker meanwhile is seen in the
        # queue.
        accounted = self._queue.queued_tasks()
        accounted |= {task for worker in self._roster.workers() for task in worker.held_tasks}
        found = self._open.missing(
            self._in_turn(self._batches.in_flight()),
            accounted,
            may_read=lambda: self._monotonic() - began_at < _READ_FOR_S,
        )
        self._begin_with = None
        tags: dict[str, str] | None = None
        while some := list(islice(found, _BATCHES_AT_ONCE)):
            if self._monotonic() - began_at > _SEND_FOR_S:
                self._begin_with = self._begin_with or some[0][0].id
                continue
            passed_over = (batch.id for batch, _, is_read in some if not is_read)
            self._begin_with = self._begin_with or next(passed_over, None)
            lost = self._lost.find({batch.id: numbers for batch, numbers, _ in some})
            if lost and tags is None:
                taken = self._queue.unacked(_UNACKED_PER_LOOK)
                tags = {message.task_id: message.tag for message in taken if message.is_lines}
            for batch, _, _ in some:
                if batch.id in lost:
                    self._send_again(batch, lost[batch.id], tags or {})

    def _in_turn(self, batches: Sequence[InFlight]) -> Sequence[InFlight]:
        first = next((number for number, batch in enumerate(batches) if batch.id == self._begin_with), 0)
        return [*batches[first:], *batches[:first]]

    def _send_again(self, batch: InFlight, lost: list[int], tags: dict[str, str]) -> None:
        losses = self._count_losses(batch.id, lost, tags)
        alone = [number for number in lost if losses.get(number, 0) > _LOSSES_BEFORE_ALONE]
        again = [number for number in lost if losses.get(number, 0) <= _LOSSES_BEFORE_ALONE]
        log.warning("batch.repaired", batch_id=batch.id, tasks=len(again), tasks_alone=len(alone))
        fence = self._roster.fences([batch.id])[batch.id]
        self._queue.open_chord(batch.id, batch.tasks)
        for numbers, delivery in ((again, Delivery.AGAIN), (alone, Delivery.ALONE)):
            for section in batch.sections:
                in_section = [number for number in numbers if section.first_task <= number < section.end_task]
                if in_section:
                    tasks = line_tasks(batch, in_section)
                    self._queue.publish_lines(batch.id, section.upstream, tasks, delivery, fence)

    def _count_losses(self, batch_id: str, lost: list[int], tags: dict[str, str]) -> dict[int, int]:
        """Return how often tasks of the batch were lost with the worker, this loss included."""
        # A lost message alone is no evidence against its lines: only a worker that took the message can die of the
        # lines.
        taken = {number: tag for number in lost if (tag := tags.get(ids.task_id(batch_id, number)))}
        if taken:
            # No worker is left to acknowledge the message. Drop the message before counting the loss, so as not to
            # count twice.
            self._queue.drop_unacked(list(taken.values()))
            self._roster.count_losses(batch_id, list(taken))
        return self._roster.losses(batch_id)
