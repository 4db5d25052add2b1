"""Upkeep: what beat has done every few seconds, so that whatever died or was lost is made good.

Each tick is idempotent: two beats, or a tick that is delivered twice, do no harm.
"""

import structlog

from app.domain import ids
from app.domain.batch import Batch
from app.domain.errors import StateConflict
from app.domain.lifecycle import Event, Status
from app.services.dispatch import DispatchService, line_tasks
from app.services.ports import BatchStore, Blobs, Clock, FileStore, IdempotencyStore, Queue, ResultStore, Roster

log = structlog.get_logger()

# What a window that elapses ends; finalizing is not interrupted.
_EXPIRABLE = frozenset({Status.VALIDATING, Status.IN_PROGRESS})
# Batches looked at in one tick: the nearest deadlines first, the rest in the next.
_BATCHES_PER_TICK = 500
# A validation that has not begun this long after its batch was created has lost its message.
_VALIDATE_AGAIN_S = 5.0
# Past the grace for calls in flight, a batch that ends waits this much longer for its tasks to return.
_DRAIN_SLACK_S = 10.0
_FILES_PER_SWEEP = 200
_RESULTS_PER_DELETE = 5_000
_DELETES_PER_SWEEP = 40
_IDEMPOTENCY_LIFETIME_S = 86_400.0
# A blob that nobody owns is removed at this age; whoever is writing one has long finished or died.
_ORPHAN_AGE_S = 86_400.0
_BLOBS_PER_LOOKUP = 500


class UpkeepService:
    """Expires, repairs and deletes."""

    def __init__(
        self,
        batches: BatchStore,
        results: ResultStore,
        files: FileStore,
        idempotency: IdempotencyStore,
        blobs: Blobs,
        queue: Queue,
        roster: Roster,
        clock: Clock,
        dispatch: DispatchService,
        *,
        cancel_grace_s: float,
        finalize_max_tries: int,
    ) -> None:
        self._batches = batches
        self._results = results
        self._files = files
        self._idempotency = idempotency
        self._blobs = blobs
        self._queue = queue
        self._roster = roster
        self._clock = clock
        self._dispatch = dispatch
        self._cancel_grace_s = cancel_grace_s
        self._finalize_max_tries = finalize_max_tries

    def expire(self) -> None:
        """End the batches whose window has elapsed."""
        now = self._clock.now()
        for batch in self._batches.active(_BATCHES_PER_TICK, _EXPIRABLE):
            if batch.expires_at > now:
                return
            try:
                self._batches.advance(batch.id, Event.WINDOW_ELAPSED, now)
            except StateConflict:
                continue
            log.info("batch.expiring", batch_id=batch.id)
            self._dispatch.close(batch.id)

    def repair(self) -> None:
        """Send again what was lost: line tasks, validations and finalizations."""
        # The queue is read before the workers: a task that moves from one to the other meanwhile is seen in the first.
        queued = self._queue.queued_tasks()
        held = {task for worker in self._roster.workers() for task in worker.held_tasks}
        for batch in self._batches.active(_BATCHES_PER_TICK, {Status.IN_PROGRESS}):
            if batch.lines_outstanding:
                self._repair_tasks(batch, queued | held)
        for batch in self._batches.stalled(self._clock.now(), _BATCHES_PER_TICK):
            self._restart(batch)

    def sweep(self) -> None:
        """Delete what nobody will ask for again."""
        now = self._clock.now()
        for file in self._files.removable(now, _FILES_PER_SWEEP):
            self._blobs.delete(file.blob)
            self._files.remove(file.id)
        for _ in range(_DELETES_PER_SWEEP):
            if not self._results.clear(_RESULTS_PER_DELETE):
                break
        self._idempotency.clear(now - _IDEMPOTENCY_LIFETIME_S)

    def sweep_blobs(self) -> None:
        """Delete blobs that a crash left without an owner."""
        stale: list[str] = []
        for key in self._blobs.stale(self._clock.now() - _ORPHAN_AGE_S):
            stale.append(key)
            if len(stale) == _BLOBS_PER_LOOKUP:
                self._delete_orphans(stale)
                stale = []
        self._delete_orphans(stale)

    def _repair_tasks(self, batch: Batch, accounted: set[str]) -> None:
        counts = self._results.counts_by_task(batch.id, batch.lines_per_task)
        missing = [
            task.number
            for task in line_tasks(batch, range(batch.tasks_dispatched))
            if counts.get(task.number, 0) < task.end - task.first
            and ids.task_id(batch.id, task.number) not in accounted
        ]
        # Only what was missing at the last look too: a worker reports what it holds once a second.
        seen_before = self._roster.swap_suspects(batch.id, missing)
        lost = [number for number in missing if number in seen_before]
        if lost:
            log.warning("batch.repaired", batch_id=batch.id, tasks=len(lost))
            self._queue.open_chord(batch.id, batch.tasks)
            self._queue.publish_lines(batch.id, line_tasks(batch, lost), is_repeat=True)

    def _restart(self, batch: Batch) -> None:
        now = self._clock.now()
        if batch.status is Status.VALIDATING:
            if now - batch.created_at > _VALIDATE_AGAIN_S:
                self._queue.validate(batch.id)
        elif batch.finalize_tries >= self._finalize_max_tries:
            log.error("batch.gave_up", batch_id=batch.id, tries=batch.finalize_tries)
            self._batches.advance(batch.id, Event.GAVE_UP, now)
        elif not batch.lines_outstanding or self._is_drain_over(batch, now):
            self._queue.finalize(batch.id)

    def _is_drain_over(self, batch: Batch, now: float) -> bool:
        since = batch.cancelling_at if batch.status is Status.CANCELLING else batch.expires_at
        return now - (since or now) > self._cancel_grace_s + _DRAIN_SLACK_S

    def _delete_orphans(self, keys: list[str]) -> None:
        owned = self._files.blobs(keys) if keys else set()
        for key in keys:
            if key not in owned:
                log.info("blob.swept", blob=key)
                self._blobs.delete(key)
