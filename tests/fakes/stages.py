"""The part of the batches in memory that finds them by what is to be done for them."""

from collections import Counter
from collections.abc import Collection

from app.domain.batch import Batch, InFlight, RunningTotal
from app.domain.lifecycle import Status
from app.services.ports import Lease
from tests.fakes.database import MemoryDatabase, nearest, newest


class MemoryStages:
    """Looks at each batch there is."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self._db = database or MemoryDatabase()

    def expired(self, now: float, limit: int) -> list[Batch]:
        found = [batch for batch in self._active() if batch.status in (Status.VALIDATING, Status.IN_PROGRESS)]
        return [batch for batch in found if batch.expires_at <= now][:limit]

    def active_ids(self) -> set[str]:
        return {batch.id for batch in self._active()}

    def count_active(self) -> dict[Status, int]:
        return dict(Counter(batch.status for batch in self._active()))

    def undispatched(self, limit: int) -> list[Batch]:
        numbered = {
            seq: row.batch
            for seq, row in enumerate(self._db.batches.values())
            if row.batch.status is Status.IN_PROGRESS
        }
        waiting = [
            (seq, batch, section)
            for seq, batch in numbered.items()
            for section in batch.sections
            if section.next_task < section.end_task and section.unrecorded
        ]
        chosen = nearest(waiting, limit) | newest(waiting, limit // 8)
        return sorted((numbered[seq] for seq in sorted(chosen)), key=lambda batch: batch.expires_at)

    def in_flight(self) -> list[InFlight]:
        return [
            InFlight(
                batch.id,
                batch.lines_per_task,
                batch.tasks,
                tuple(section for section in batch.sections if section.outstanding(batch.lines_per_task)),
            )
            for batch in self._in_progress()
            if batch.lines_outstanding
        ]

    def outstanding_totals(self) -> dict[tuple[str, str], RunningTotal]:
        totals: dict[tuple[str, str], RunningTotal] = {}
        for batch in self._in_progress():
            for section in batch.sections:
                if outstanding := section.outstanding(batch.lines_per_task):
                    count, lines = totals.get((section.upstream, batch.tenant_id), RunningTotal())
                    totals[section.upstream, batch.tenant_id] = RunningTotal(count + 1, lines + outstanding)
        return totals

    def bound_elsewhere(self, upstreams: Collection[str]) -> list[tuple[str, str, int]]:
        return [
            (section.upstream, batch.id, section.unrecorded)
            for batch in self._in_progress()
            for section in batch.sections
            if section.unrecorded and section.upstream not in upstreams
        ]

    def leases(self) -> list[Lease]:
        with self._db.lock:
            rows = [self._db.batches[batch.id] for batch in self._active()]
        return [Lease(row.batch.id, row.lease_owner, row.lease_renewals) for row in rows if row.lease_owner]

    def stalled(self, limit: int) -> list[Batch]:
        free = [batch for batch in self._active() if self._db.batches[batch.id].lease_owner is None]
        return [batch for batch in free if batch.status is not Status.IN_PROGRESS or batch.recorded == batch.total][
            :limit
        ]

    def _active(self) -> list[Batch]:
        with self._db.lock:
            return sorted((row.batch for row in self._db.active_batches()), key=lambda batch: batch.expires_at)

    def _in_progress(self) -> list[Batch]:
        return [batch for batch in self._active() if batch.status is Status.IN_PROGRESS]
