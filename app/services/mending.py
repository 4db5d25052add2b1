"""Mending of an accepted batch whose plan or input is missing in the storage."""

from collections.abc import Callable

import structlog

from app.domain.batch import Batch, LineError, input_missing
from app.domain.errors import BlobMissing, StateConflict
from app.domain.plan import ENTRY_BYTES, order_digest, unpack_entries
from app.domain.prefix import MAX_GROUPS_AT_ONCE
from app.domain.structure import Structure
from app.services.ports import BatchStore, Blobs, Clock, read_whole

log = structlog.get_logger()


class Mending:
    """Writes a lost plan anew, or ends the batch with the reason why a plan is impossible; results are kept.

    Results are recorded by the place of their line in the plan. So a new plan must have the lines in the very order of
    the lost plan, whatever settings have changed since; the digest in the batch's row tells the order.

    Args:
        batches: the rows of batches.
        blobs: the store of inputs and plans.
        clock: the time of day.
        plan_of: returns the plan of a structure, with the given number of groups of lines side by side.
    """

    def __init__(
        self,
        batches: BatchStore,
        blobs: Blobs,
        clock: Clock,
        plan_of: Callable[[Batch, Structure, int], bytes],
    ) -> None:
        self._batches = batches
        self._blobs = blobs
        self._clock = clock
        self._plan_of = plan_of

    def mend(self, batch: Batch, read_structure: Callable[[], Structure | None]) -> None:
        """Find the missing blob, and mend it; the caller holds the batch's lease.

        Args:
            batch: the batch.
            read_structure: returns the structure of the batch's input; None if its bytes are gone.
        """
        if batch.plan_blob is None or batch.input_blob is None:
            # The batch was never accepted: none of its blobs is read.
            return
        plan = self._read_plan(batch)
        if plan is not None:
            if batch.recorded < batch.total and not self._has_input(batch, plan):
                self._give_up(batch, input_missing(batch))
            return
        structure = read_structure()
        plan = None if structure is None else self._find_plan(batch, structure)
        if plan is None:
            self._give_up(batch, input_missing(batch) if structure is None else plan_missing(batch))
            return
        writer = self._blobs.create(batch.plan_blob)
        try:
            writer.write(plan)
            writer.commit()
        finally:
            writer.discard()
        log.warning("plan.written_anew", batch_id=batch.id, total=batch.total)

    def _read_plan(self, batch: Batch) -> bytes | None:
        """Return the plan; None if the plan is missing, cut short or a different plan."""
        try:
            plan = read_whole(self._blobs, batch.plan_blob or "", 0, batch.total * ENTRY_BYTES)
        except BlobMissing:
            return None
        # Batches of older versions have no digest.
        return plan if batch.plan_digest in (None, order_digest(plan)) else None

    def _has_input(self, batch: Batch, plan: bytes) -> bool:
        end = max(entry.offset + entry.length for entry in unpack_entries(plan))
        try:
            return self._blobs.size(batch.input_blob or "") >= end
        except BlobMissing:
            return False

    def _find_plan(self, batch: Batch, structure: Structure) -> bytes | None:
        if batch.plan_digest is None or structure.total != batch.total or structure.bad_lines:
            return None
        for groups_at_once in range(MAX_GROUPS_AT_ONCE, -1, -1):
            plan = self._plan_of(batch, structure, groups_at_once)
            if order_digest(plan) == batch.plan_digest:
                return plan
        return None

    def _give_up(self, batch: Batch, reason: LineError) -> None:
        try:
            self._batches.give_up(batch.id, [reason], self._clock.now())
        except StateConflict:
            # The batch has ended meanwhile.
            return
        log.error("batch.gave_up", batch_id=batch.id, code=reason.code, recorded=batch.recorded, total=batch.total)


def plan_missing(batch: Batch) -> LineError:
    """Return the reason for a batch whose plan is gone and can't be made again."""
    message = (
        f"The order in which the {batch.total:,} requests ran is missing in the storage, and could not be found out "
        f"again from file {batch.input_file_id}: create the batch again."
    )
    return LineError("plan_missing", message)
