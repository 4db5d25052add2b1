"""Upkeep: the work that beat triggers every few seconds, to make good dead processes and lost messages.

A tick is idempotent: two beats, or a second delivery of a tick, do no harm.
"""

from collections.abc import Callable, Sequence

import structlog

from app.domain import ids
from app.domain.batch import Batch
from app.domain.errors import StateConflict, Unavailable
from app.domain.lifecycle import Event, Status
from app.domain.stranded import find_stranded
from app.domain.upstream import DEFAULT_UPSTREAM
from app.domain.watch import Watch
from app.services.blob_removal import BlobRemoval
from app.services.clearing import ClearingService
from app.services.dispatch import DispatchService
from app.services.leases import LeaseWatch
from app.services.ports import (
    BatchStore,
    Blobs,
    Clock,
    FileStore,
    IdempotencyStore,
    Queue,
    ResultStore,
    Roster,
    TrialStore,
)
from app.services.repair import RepairService
from app.services.verdicts import verdict_blob

log = structlog.get_logger()

# The most batches looked at in one tick; later ticks look at the rest.
_BATCHES_PER_TICK = 500
# A validation that has not begun for this long has lost the message.
_VALIDATE_AGAIN_S = 5.0
# The most that counts between two looks at a waiting batch.
_LONGEST_GAP_S = 6.0
# Past the grace for calls in flight, an ending batch waits this much longer for the return of its tasks.
_DRAIN_SLACK_S = 10.0
# Looks in a row that ask for no work on files while messages wait. The next look repeats a lost message all the same.
_MOST_SKIPPED = 10
_FILES_PER_SWEEP = 200
# Longer than clearing goes on; nobody waits longer for a holder that died.
_CLEAR_LOCK_S = 20.0
# Twice the time promised to callers: keys are stored by the web processes' clocks and cleared by this process's clock.
_IDEMPOTENCY_LIFETIME_S = 2 * 86_400.0
# A blob without an owner is removed at this age; its writer has long finished or died.
_ORPHAN_AGE_S = 86_400.0
_BLOBS_PER_LOOKUP = 500
# A message taken this long ago is abandoned, unless a live worker reports the task.
_UNACKED_AGE_S = 60.0
# The most that counts between two sweeps of the broker.
_LONGEST_SWEEP_GAP_S = 40.0
_UNACKED_PER_SWEEP = 1_000
# The least time between warnings: an operator may be in the middle of a change of the file.
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
        is_abandoned: Callable[[str], bool] = lambda _: False,
        shorten_log: Callable[[], object] = lambda: None,
    ) -> None:
        self._batches = batches
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
        self._held = LeaseWatch(batches, clock, is_abandoned)
        self._shorten_log = shorten_log
        self._lines = RepairService(batches, results, queue, roster, clock, upstreams)
        self._clearing = ClearingService(results)
        # How long batches have waited for a validation, and for the return of tasks, as seen by this process.
        self._unvalidated: Watch[str, Status] = Watch(_LONGEST_GAP_S)
        self._draining: Watch[str, Status] = Watch(_LONGEST_GAP_S)
        # How long messages have been taken and not acknowledged, as seen by this process.
        self._taken: Watch[str, str] = Watch(_LONGEST_SWEEP_GAP_S)
        # Looks in a row that asked for no work on files.
        self._skipped = 0
        self._has_looked = False
        self._warned_at: dict[str, float] = {}

    def expire(self) -> None:
        """End the batches whose window has elapsed."""
        now = self._clock.now()
        for batch in self._batches.expired(now, _BATCHES_PER_TICK):
            try:
                self._batches.advance(batch.id, Event.WINDOW_ELAPSED, now)
            except StateConflict:
                continue
            log.info("batch.expiring", batch_id=batch.id)
            self._dispatch.close(batch.id)

    def repair(self) -> None:
        """Send lost work again: line tasks, validations and finalizations."""
        self._lines.repair()
        freed = self._held.free()
        # While messages wait, the processes of files are behind: more messages would only make new work wait.
        is_behind = self._queue.has_file_messages() and self._skipped < _MOST_SKIPPED
        self._skipped = self._skipped + 1 if is_behind else 0
        stalled = self._batches.stalled(_BATCHES_PER_TICK)
        for batch in stalled:
            if batch.id in freed or not is_behind:
                self._restart(batch, is_freed=batch.id in freed)
        ids_of_stalled = {batch.id for batch in stalled}
        self._unvalidated.keep(ids_of_stalled)
        self._draining.keep(ids_of_stalled)
        self._has_looked = self._has_looked or not is_behind

    def sweep(self) -> None:
        """Delete data that nobody will ask for again."""
        now = self._clock.now()
        try:
            self._remove_files(now)
        except Unavailable as fault:
            # The database may be cleared while the storage is away.
            if self._may_warn("storage"):
                log.warning("files.not_swept", error=str(fault))
        with self._roster.lock("clear", _CLEAR_LOCK_S) as is_held:
            if is_held:
                self._clearing.clear()
        self._idempotency.clear(now - _IDEMPOTENCY_LIFETIME_S)
        self._trials.clear()
        self._shorten_log()

    def sweep_broker(self) -> None:
        """Delete the remains of dead processes and late messages from the broker."""
        # The broker is read before the batches: a chord opened meanwhile is not among the chords.
        chords, with_losses = self._queue.chords(), self._roster.batches_with_losses()
        fenced = self._roster.fenced_batches()
        taken = self._queue.unacked(_UNACKED_PER_SWEEP)
        held = self._held_tasks()
        active = self._batches.active_ids()
        self._queue.drop_chords(chords - {ids.group_id(batch_id) for batch_id in active})
        for batch_id in with_losses - active:
            self._roster.forget_losses(batch_id)
        self._roster.forget_fences(fenced - active)
        # Upkeep repeats the request of a dropped message for as long as the batch needs it.
        now = self._clock.monotonic()
        abandoned = [
            message.tag
            for message in taken
            if self._taken.unchanged_s(message.tag, message.task_id, now) >= _UNACKED_AGE_S
            and message.task_id not in held
            and message.batch_id not in active
        ]
        self._taken.keep({message.tag for message in taken})
        self._queue.drop_unacked(abandoned)
        self._queue.drop_unknown_queues()
        self._warn_of_stranded()

    def sweep_blobs(self) -> None:
        """Delete blobs that a crash left without an owner."""
        removal, stale = BlobRemoval(self._blobs), list[str]()
        try:
            for key in self._blobs.stale(_ORPHAN_AGE_S):
                stale.append(key)
                if len(stale) == _BLOBS_PER_LOOKUP:
                    self._delete_orphans(stale, removal)
                    stale = []
            self._delete_orphans(stale, removal)
        finally:
            removal.tell()

    def _remove_files(self, now: float) -> None:
        removal = BlobRemoval(self._blobs)
        try:
            for file in self._files.removable(now, _FILES_PER_SWEEP):
                removal.delete(file.blob)
                removal.delete(verdict_blob(file.blob))
                # A blob that could not be deleted has no owner from now on: the hourly sweep of blobs tries again.
                self._files.remove(file.id)
        finally:
            removal.tell()

    def _warn_of_stranded(self) -> None:
        for upstream, lines, batch_ids in find_stranded(self._batches.bound_elsewhere(self._upstreams)):
            if self._may_warn(f"upstream {upstream}"):
                log.warning(
                    "upstream.missing", upstream=upstream, lines=lines, batches=len(batch_ids), batch_id=batch_ids[0]
                )

    def _may_warn(self, subject: str) -> bool:
        """Return whether a warning about a subject is due, and count the warning as given."""
        now = self._clock.monotonic()
        if now - self._warned_at.get(subject, float("-inf")) < _WARN_EVERY_S:
            return False
        self._warned_at[subject] = now
        return True

    def _held_tasks(self) -> set[str]:
        return {task for worker in self._roster.workers() for task in worker.held_tasks}

    def _restart(self, batch: Batch, *, is_freed: bool) -> None:
        now = self._clock.monotonic()
        if batch.status is Status.VALIDATING:
            waited_s = self._unvalidated.unchanged_s(batch.id, batch.status, now)
            # Batches that wait at the start of this process may have lost messages at the end of the process before.
            if waited_s > _VALIDATE_AGAIN_S or is_freed or not self._has_looked:
                self._unvalidated.restart(batch.id)
                self._queue.validate(batch.id)
        elif batch.finalize_tries >= self._finalize_max_tries:
            self._give_up(batch, self._clock.now())
        elif not batch.lines_outstanding or self._is_drain_over(batch, now):
            self._queue.finalize(batch.id)

    def _give_up(self, batch: Batch, now: float) -> None:
        try:
            self._batches.advance(batch.id, Event.GAVE_UP, now)
        except StateConflict:
            # A finalizer thought dead has ended the batch after all.
            return
        log.error("batch.gave_up", batch_id=batch.id, tries=batch.finalize_tries)

    def _is_drain_over(self, batch: Batch, now: float) -> bool:
        waited_s = self._draining.unchanged_s(batch.id, batch.status, now)
        return waited_s > self._cancel_grace_s + _DRAIN_SLACK_S

    def _delete_orphans(self, keys: list[str], removal: BlobRemoval) -> None:
        owned = self._files.blobs(keys) if keys else set()
        for key in keys:
            if key not in owned and removal.delete(key):
                log.info("blob.swept", blob=key)
