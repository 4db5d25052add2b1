"""The stores in memory; give them the same database to let them see each other's rows."""

from collections.abc import Sequence
from dataclasses import replace

from app.domain.batch import Batch, LineError
from app.domain.errors import NotFound, StateConflict
from app.domain.file import File
from app.domain.lifecycle import TERMINAL, Event, Status
from app.services.ports import PAUSED, BatchStore, Claim, Lease, Move, Planned, Written
from tests.fakes.database import BatchRow, FileRow, MemoryDatabase, page_after
from tests.fakes.stages import MemoryStages


def break_leases(batches: BatchStore) -> None:
    """Free all batches, as upkeep does of holders that stand still."""
    for lease in batches.leases():
        assert batches.break_lease(lease)


class MemoryFileStore:
    """Files in a dictionary."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self._db = database or MemoryDatabase()

    def add(self, file: File, claim: Claim | None = None) -> None:
        with self._db.lock:
            self._db.store_claim(file.tenant_id, claim, file.id, file.created_at)
            self._db.files[file.id] = FileRow(file)

    def get(self, tenant_id: str, file_id: str, now: float) -> File | None:
        with self._db.lock:
            row = self._db.files.get(file_id)
            return row.file if row and row.file.tenant_id == tenant_id and row.is_visible(now) else None

    def page(
        self, tenant_id: str, now: float, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> list[File]:
        with self._db.lock:
            rows = [row for row in self._db.files.values() if row.file.tenant_id == tenant_id]
            rows.sort(key=lambda row: (row.file.created_at, row.file.id), reverse=newest_first)
            ids = [row.file.id for row in rows]
            if after is not None and after not in ids:
                raise NotFound(f"No such File object: {after}", param="after")
            following = page_after(rows, ids, after, len(rows))
            shown = [
                row.file
                for row in following
                if row.is_visible(now) and (purpose is None or row.file.purpose == purpose)
            ]
            return shown[:limit]

    def mark_deleted(self, tenant_id: str, file_id: str, now: float) -> bool:
        with self._db.lock:
            if self.get(tenant_id, file_id, now) is None:
                return False
            self._db.files[file_id].deleted_at = now
            return True

    def removable(self, now: float, limit: int) -> list[File]:
        with self._db.lock:
            return self._db.hide_gone(now)[:limit]

    def remove(self, file_id: str) -> None:
        with self._db.lock:
            self._db.files.pop(file_id, None)

    def blobs(self, keys: Sequence[str]) -> set[str]:
        with self._db.lock:
            return set(keys) & self._db.owned_blobs()


class MemoryBatchStore(MemoryStages):
    """Batches in a dictionary, with the guards of the real one."""

    def add(self, batch: Batch, *, input_at: float | None = None, claim: Claim | None = None) -> None:
        with self._db.lock:
            if input_at is not None:
                self._db.hold_file(batch.tenant_id, batch.input_file_id, input_at)
            self._db.store_claim(batch.tenant_id, claim, batch.id, batch.created_at)
            self._db.batches[batch.id] = BatchRow(batch)

    def get(self, tenant_id: str, batch_id: str) -> Batch | None:
        batch = self.find(batch_id)
        return batch if batch and batch.tenant_id == tenant_id else None

    def find(self, batch_id: str) -> Batch | None:
        with self._db.lock:
            row = self._db.batches.get(batch_id)
            return row.batch if row else None

    def input_bytes(self, input_blob: str) -> int | None:
        with self._db.lock:
            sizes = {row.file.blob: row.file.bytes for row in self._db.files.values()}
            return sizes.get(input_blob)

    def page(self, tenant_id: str, *, after: str | None, limit: int) -> list[Batch]:
        with self._db.lock:
            own = [row.batch for row in self._db.batches.values() if row.batch.tenant_id == tenant_id]
            own.sort(key=lambda batch: (batch.created_at, batch.id), reverse=True)
            ids = [batch.id for batch in own]
            if after is not None and after not in ids:
                raise NotFound(f"No batch found with id '{after}'.", param="after")
            return page_after(own, ids, after, limit)

    def advance(self, batch_id: str, event: Event, now: float) -> Batch:
        with self._db.lock:
            return self._db.move(self._row(batch_id), event, now)

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        with self._db.lock:
            values = {name: getattr(planned, name) for name in ("plan_blob", "lines_per_task", "total", "model")}
            values |= {"plan_digest": planned.plan_digest, "sections": planned.sections}
            row = self._row(batch_id)
            self._db.move(row, Event.ACCEPTED, now, **values)
            return self._freed(row)

    def reject(self, batch_id: str, errors: Sequence[LineError], now: float) -> Batch:
        with self._db.lock:
            row = self._row(batch_id)
            self._db.move(row, Event.REJECTED, now, errors=tuple(errors))
            return self._freed(row)

    def give_up(self, batch_id: str, reasons: Sequence[LineError], now: float) -> Batch:
        with self._db.lock:
            return self._db.move(self._row(batch_id), Event.GAVE_UP, now, errors=tuple(reasons))

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        with self._db.lock:
            row = self._held(batch_id, token)
            self._db.move(row, Event.FILES_WRITTEN, now)
            for file in (written.output, written.errors):
                if file is not None:
                    self._db.files[file.id] = FileRow(file)
            row.batch = replace(
                row.batch,
                total=row.batch.total if written.total is None else written.total,
                output_file_id=written.output.id if written.output else None,
                error_file_id=written.errors.id if written.errors else None,
                lease_owner=None,
            )
            return row.batch

    def seal(self, batch_id: str, token: str, now: float) -> Batch:
        with self._db.lock:
            row = self._row(batch_id)
            if row.lease_owner not in (None, token):
                raise StateConflict(f"Another process finalizes {batch_id}.")
            batch = row.batch
            if batch.status is Status.VALIDATING or batch.status in TERMINAL:
                raise StateConflict(f"A batch that is {batch.status} can't be finalized.")
            if batch.status is Status.IN_PROGRESS:
                if batch.recorded < batch.total:
                    raise StateConflict("The batch has lines without a result.")
                batch = self._db.move(row, Event.ALL_RECORDED, now)
            sealed_at = now if batch.sealed_at is None else batch.sealed_at
            row.lease_owner = token
            row.lease_renewals += 1
            tries = batch.finalize_tries + 1
            row.batch = replace(batch, sealed_at=sealed_at, finalize_tries=tries, lease_owner=token)
            return row.batch

    def excuse_try(self, batch_id: str, token: str) -> None:
        with self._db.lock:
            row = self._db.batches[batch_id]
            if row.lease_owner == token:
                row.batch = replace(row.batch, finalize_tries=max(row.batch.finalize_tries - 1, 0))

    def lease(self, batch_id: str, token: str) -> bool:
        with self._db.lock:
            row = self._db.batches.get(batch_id)
            if row is None or row.lease_owner not in (None, token):
                return False
            row.lease_owner = token
            row.lease_renewals += 1
            row.batch = replace(row.batch, lease_owner=token)
            return True

    def pause_lease(self, batch_id: str, token: str) -> None:
        with self._db.lock:
            row = self._db.batches.get(batch_id)
            if row is not None and row.lease_owner == token:
                row.lease_owner = PAUSED + token

    def break_lease(self, lease: Lease) -> bool:
        with self._db.lock:
            row = self._db.batches[lease.batch_id]
            if (row.lease_owner, row.lease_renewals) != (lease.owner, lease.renewals):
                return False
            row.lease_owner = None
            row.batch = replace(row.batch, lease_owner=None)
            return True

    def release(self, batch_id: str, token: str) -> None:
        with self._db.lock:
            row = self._db.batches.get(batch_id)
            if row is not None and row.lease_owner == token:
                row.lease_owner = None
                row.batch = replace(row.batch, lease_owner=None)

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        with self._db.lock:
            row = self._db.batches.get(batch_id)
            if row is None or row.batch.status is not Status.IN_PROGRESS:
                return False
            batch = row.batch
            at = [s for s in batch.sections if s.next_task == from_task < to_task <= s.end_task]
            if not at:
                return False
            sections = tuple(s._replace(next_task=to_task) if s in at else s for s in batch.sections)
            row.batch = replace(batch, sections=sections)
            return True

    def move_free_cursors(self, moves: Sequence[Move]) -> set[str]:
        with self._db.lock:
            return {move.batch_id for move in moves if self.move_cursor(*move)}

    def _freed(self, row: BatchRow) -> Batch:
        row.lease_owner = None
        row.batch = replace(row.batch, lease_owner=None)
        return row.batch

    def statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        with self._db.lock:
            return {each: self._db.batches[each].batch.status for each in batch_ids if each in self._db.batches}

    def _row(self, batch_id: str) -> BatchRow:
        row = self._db.batches.get(batch_id)
        if row is None:
            raise StateConflict(f"There is no batch {batch_id}.")
        return row

    def _held(self, batch_id: str, token: str) -> BatchRow:
        row = self._row(batch_id)
        if row.lease_owner != token:
            raise StateConflict("Another holds the lease of the batch by now.")
        return row
