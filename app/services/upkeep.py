"""Upkeep: what beat has done every few seconds, so that whatever died or was lost is made good.

Each tick is idempotent: two beats, or a tick that is delivered twice, do no harm.
"""

from collections.abc import Sequence

import structlog

from app.domain import ids
from app.domain.batch import Batch
from app.domain.errors import StateConflict
from app.domain.lifecycle import Event, Status
from app.domain.stranded import find_stranded
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.dispatch import DispatchService, line_tasks
from app.services.ports import (
    BatchStore,
    Blobs,
    Clock,
    Delivery,
    FileStore,
    IdempotencyStore,
    Queue,
    ResultStore,
    Roster,
    TrialStore,
)
from app.services.sharing import ALL_BATCHES
from app.services.verdicts import verdict_blob

log = structlog.get_logger()

# What a window that elapses ends; finalizing is not interrupted.
_EXPIRABLE = frozenset({Status.VALIDATING, Status.IN_PROGRESS})
# Batches looked at in one tick: the nearest deadlines first, the rest in those that follow.
_BATCHES_PER_TICK = 500
# Repair looks at the same ones in so many ticks on end, for what is missing is lost only after some seconds.
_TICKS_PER_TURN = 3
# A validation that has not begun this long after its batch was created has lost its message.
_VALIDATE_AGAIN_S = 5.0
# A worker says what it holds once a second, later when its machine is busy: what is missing is lost only after this.
_LOST_AFTER_S = 4.5
# Longer than a repair takes; a holder that died is waited for no longer.
_LOCK_S = 10.0
# A task that was lost with this many workers may be what ends them.
_LOSSES_BEFORE_ALONE = 2
# Past the grace for calls in flight, a batch that ends waits this much longer for its tasks to return.
_DRAIN_SLACK_S = 10.0
_FILES_PER_SWEEP = 200
_RESULTS_PER_DELETE = 5_000
_DELETES_PER_SWEEP = 40
# Twice what callers are promised: keys are stored by the clocks of web processes and cleared by that of this one.
_IDEMPOTENCY_LIFETIME_S = 2 * 86_400.0
# A blob that nobody owns is removed at this age; whoever is writing one has long finished or died.
_ORPHAN_AGE_S = 86_400.0
_BLOBS_PER_LOOKUP = 500
# A message taken this long ago is nobody's, unless a live worker says that it has it.
_UNACKED_AGE_S = 60.0
_UNACKED_PER_SWEEP = 1_000
# Workers together hold no more messages than dispatch publishes.
_UNACKED_PER_LOOK = 25_000
# An operator may be amid a change of the file.
_WARN_EVERY_S = 60.0


class UpkeepService:
    """Expires, repairs and deletes."""

    def __init__(
        self,
        batches: BatchStore,
        results: ResultStore,
        trials: TrialStore,
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
        upstreams: Sequence[str] = (DEFAULT_UPSTREAM,),
    ) -> None:
        self._batches = batches
        self._results = results
        self._trials = trials
        self._files = files
        self._idempotency = idempotency
        self._blobs = blobs
        self._queue = queue
        self._roster = roster
        self._clock = clock
        self._dispatch = dispatch
        self._cancel_grace_s = cancel_grace_s
        self._finalize_max_tries = finalize_max_tries
        self._upstreams = upstreams
        # Where the batches begin that repair looks at, where those begin that come next, and the ticks so far.
        self._turn_after: Batch | None = None
        self._next_turn_after: Batch | None = None
        self._turn_ticks = 0

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
        with self._roster.lock("repair", _LOCK_S) as is_held:
            if is_held:
                self._repair_lines()
        for batch in self._batches.stalled(self._clock.now(), _BATCHES_PER_TICK):
            self._restart(batch)

    def sweep(self) -> None:
        """Delete what nobody will ask for again."""
        now = self._clock.now()
        for file in self._files.removable(now, _FILES_PER_SWEEP):
            self._blobs.delete(file.blob)
            self._blobs.delete(verdict_blob(file.blob))
            self._files.remove(file.id)
        for _ in range(_DELETES_PER_SWEEP):
            if not self._results.clear(_RESULTS_PER_DELETE):
                break
        self._idempotency.clear(now - _IDEMPOTENCY_LIFETIME_S)
        self._trials.clear()

    def sweep_broker(self) -> None:
        """Delete what dead processes and late messages left in the broker."""
        # What there is is read before the batches: a chord that is opened meanwhile is not among them.
        chords, with_losses = self._queue.chords(), self._roster.batches_with_losses()
        taken = self._queue.unacked(_UNACKED_PER_SWEEP, self._clock.now() - _UNACKED_AGE_S)
        held = self._held_tasks()
        batches = self._batches.active(ALL_BATCHES)
        active = {batch.id for batch in batches}
        self._queue.drop_chords(chords - {ids.group_id(batch_id) for batch_id in active})
        for batch_id in with_losses - active:
            self._roster.forget_losses(batch_id)
        # Whatever a message had asked for, upkeep asks for again as long as the batch needs it.
        self._queue.drop_unacked(
            [message.tag for message in taken if message.task_id not in held and message.batch_id not in active]
        )
        self._queue.drop_unknown_queues()
        self._warn_of_stranded(batches)

    def sweep_blobs(self) -> None:
        """Delete blobs that a crash left without an owner."""
        stale: list[str] = []
        for key in self._blobs.stale(_ORPHAN_AGE_S):
            stale.append(key)
            if len(stale) == _BLOBS_PER_LOOKUP:
                self._delete_orphans(stale)
                stale = []
        self._delete_orphans(stale)

    def _warn_of_stranded(self, batches: Sequence[Batch]) -> None:
        for upstream, lines, batch_ids in find_stranded(batches, self._upstreams):
            if self._roster.is_first(f"stranded.{upstream}", _WARN_EVERY_S):
                log.warning(
                    "upstream.missing", upstream=upstream, lines=lines, batches=len(batch_ids), batch_id=batch_ids[0]
                )

    def _repair_lines(self) -> None:
        # The queue is read before the workers: a task that moves from one to the other meanwhile is seen in the first.
        accounted = self._queue.queued_tasks()
        accounted |= self._held_tasks()
        found = [(batch, self._lost_tasks(batch, accounted)) for batch in self._batches_in_turn()]
        if not any(lost for _, lost in found):
            return
        tags = {message.task_id: message.tag for message in self._queue.unacked(_UNACKED_PER_LOOK) if message.is_lines}
        for batch, lost in found:
            if lost:
                self._send_again(batch, lost, tags)

    def _batches_in_turn(self) -> list[Batch]:
        batches = self._batches.outstanding(_BATCHES_PER_TICK, self._turn_after)
        if self._turn_ticks == 0:
            # Batches that move up while others end have had fewer looks: the next turn begins with them.
            self._next_turn_after = batches[-1] if len(batches) == _BATCHES_PER_TICK else None
        self._turn_ticks = (self._turn_ticks + 1) % _TICKS_PER_TURN
        if self._turn_ticks == 0:
            self._turn_after = self._next_turn_after
        return batches

    def _lost_tasks(self, batch: Batch, accounted: set[str]) -> list[int]:
        counts = self._results.counts_by_task(batch)
        missing = [
            task.number
            for section in batch.sections
            # What is for an upstream that there is no more waits for its return.
            if section.upstream in self._upstreams
            for task in line_tasks(batch, range(section.first_task, section.next_task))
            if counts.get(task.number, 0) < task.end - task.first
            and ids.task_id(batch.id, task.number) not in accounted
        ]
        return sorted(self._roster.lost_tasks(batch.id, missing, _LOST_AFTER_S))

    def _send_again(self, batch: Batch, lost: list[int], tags: dict[str, str]) -> None:
        losses = self._count_losses(batch.id, lost, tags)
        alone = [number for number in lost if losses.get(number, 0) > _LOSSES_BEFORE_ALONE]
        again = [number for number in lost if losses.get(number, 0) <= _LOSSES_BEFORE_ALONE]
        log.warning("batch.repaired", batch_id=batch.id, tasks=len(again), tasks_alone=len(alone))
        self._queue.open_chord(batch.id, batch.tasks)
        for numbers, delivery in ((again, Delivery.AGAIN), (alone, Delivery.ALONE)):
            for section in batch.sections:
                in_section = [number for number in numbers if section.first_task <= number < section.end_task]
                if in_section:
                    tasks = line_tasks(batch, in_section)
                    self._queue.publish_lines(batch.id, section.upstream, tasks, delivery, self._clock.now())

    def _count_losses(self, batch_id: str, lost: list[int], tags: dict[str, str]) -> dict[int, int]:
        """Return how often tasks of the batch were lost with their worker, this time included."""
        # A message that was merely lost is no sign against its lines: one that ended its worker was taken by it.
        taken = {number: tag for number in lost if (tag := tags.get(ids.task_id(batch_id, number)))}
        if taken:
            # Nobody is left to acknowledge it. It goes before it is counted, so that it can't count twice.
            self._queue.drop_unacked(list(taken.values()))
            self._roster.count_losses(batch_id, list(taken))
        return self._roster.losses(batch_id)

    def _held_tasks(self) -> set[str]:
        return {task for worker in self._roster.workers() for task in worker.held_tasks}

    def _restart(self, batch: Batch) -> None:
        now = self._clock.now()
        if batch.status is Status.VALIDATING:
            # The two instants may be of two hosts: a clock that is behind does not put it off.
            if abs(now - batch.created_at) > _VALIDATE_AGAIN_S:
                self._queue.validate(batch.id)
        elif batch.finalize_tries >= self._finalize_max_tries:
            self._give_up(batch, now)
        elif not batch.lines_outstanding or self._is_drain_over(batch, now):
            self._queue.finalize(batch.id)

    def _give_up(self, batch: Batch, now: float) -> None:
        try:
            self._batches.advance(batch.id, Event.GAVE_UP, now)
        except StateConflict:
            # A finalizer thought dead has ended it after all.
            return
        log.error("batch.gave_up", batch_id=batch.id, tries=batch.finalize_tries)

    def _is_drain_over(self, batch: Batch, now: float) -> bool:
        since = batch.cancelling_at if batch.status is Status.CANCELLING else batch.expires_at
        return abs(now - (since or now)) > self._cancel_grace_s + _DRAIN_SLACK_S

    def _delete_orphans(self, keys: list[str]) -> None:
        owned = self._files.blobs(keys) if keys else set()
        for key in keys:
            if key not in owned:
                log.info("blob.swept", blob=key)
                self._blobs.delete(key)
