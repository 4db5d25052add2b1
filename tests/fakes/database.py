"""What the memory stores share, as tables of one database would be shared."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any, TypeVar

from app.domain.batch import Batch, waiting_for
from app.domain.errors import KeyTaken, NotFound
from app.domain.file import File
from app.domain.lifecycle import ACTIVE, Event, next_status, stamps
from app.domain.result import Met, Result
from app.services.ports import Claim, Known

T = TypeVar("T")


@dataclass
class FileRow:
    file: File
    deleted_at: float | None = None

    def is_visible(self, now: float) -> bool:
        return self.deleted_at is None and not self.is_expired(now)

    def is_expired(self, now: float) -> bool:
        return self.file.expires_at is not None and self.file.expires_at <= now


@dataclass
class BatchRow:
    batch: Batch
    lease_owner: str | None = None
    lease_renewals: int = 0


@dataclass
class MemoryDatabase:
    """Rows by id, under one lock that stands for a transaction."""

    files: dict[str, FileRow] = field(default_factory=dict)
    batches: dict[str, BatchRow] = field(default_factory=dict)
    results: dict[str, dict[int, Result]] = field(default_factory=dict)
    trials: dict[tuple[str, int], int] = field(default_factory=dict)
    met: dict[tuple[str, int], Met] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[Known, float]] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)

    def move(self, row: BatchRow, event: Event, now: float, **fields: Any) -> Batch:
        """Apply an event to a row; StateConflict where its status does not take it."""
        status = next_status(row.batch.status, event)
        instants: dict[str, Any] = dict.fromkeys(stamps(status), now)
        row.batch = replace(row.batch, status=status, **instants, **fields)
        return row.batch

    def active_batches(self) -> list[BatchRow]:
        return [row for row in self.batches.values() if row.batch.status in ACTIVE]

    def owned_blobs(self) -> set[str]:
        """Return the keys that a file or an unfinished batch owns; a batch's input is its file's."""
        plans = {row.batch.plan_blob for row in self.active_batches() if row.batch.plan_blob is not None}
        return {row.file.blob for row in self.files.values()} | plans

    def store_claim(self, tenant_id: str, claim: Claim | None, object_id: str, now: float) -> None:
        """Raise KeyTaken where an object was stored with the key."""
        if claim is None:
            return
        if (tenant_id, claim.key) in self.keys:
            raise KeyTaken
        self.keys[tenant_id, claim.key] = Known(claim.fingerprint, object_id), now

    def hold_file(self, tenant_id: str, file_id: str, now: float) -> None:
        """Raise NotFound where the file is not there."""
        row = self.files.get(file_id)
        if row is None or row.file.tenant_id != tenant_id or not row.is_visible(now):
            raise NotFound(f"No such File object: {file_id}", param="input_file_id")

    def hide_gone(self, now: float) -> list[File]:
        """Hide what has expired for good; return what is hidden and no unfinished batch reads."""
        gone = [row for row in self.files.values() if not row.is_visible(now)]
        for row in gone:
            row.deleted_at = row.deleted_at or now
        in_use = self.inputs_in_use()
        return [row.file for row in gone if row.file.blob not in in_use]

    def inputs_in_use(self) -> set[str]:
        return {row.batch.input_blob for row in self.active_batches() if row.batch.input_blob is not None}


def page_after(items: Sequence[T], ids: Sequence[str], after: str | None, limit: int) -> list[T]:
    """Return up to `limit` items that follow the one with the id `after`, which is there."""
    start = 0 if after is None else ids.index(after) + 1
    return list(items[start : start + limit])


def nearest(rows: Mapping[int, Batch], limit: int) -> set[int]:
    """Return which of these batches, by their numbers in the order of their making, are looked at of more than `limit`.

    Half of the places are for batches with nothing outstanding. Tenants take turns for the places, and within a tenant
    those that wait for the same upstreams.
    """
    resting = _turns({seq: batch for seq, batch in rows.items() if not batch.lines_outstanding})
    going = _turns({seq: batch for seq, batch in rows.items() if batch.lines_outstanding})
    chosen = resting[: max((limit + 1) // 2, limit - len(going))]
    return set(chosen) | set(going[: limit - len(chosen)])


def newest(rows: Mapping[int, Batch], limit: int) -> set[int]:
    """Return which of these batches are the newest, in the same turns."""
    return set(_turns({seq: replace(batch, expires_at=-seq) for seq, batch in rows.items()})[:limit])


def _turns(rows: Mapping[int, Batch]) -> list[int]:
    by_deadline = sorted(rows, key=lambda seq: (rows[seq].expires_at, seq))
    of_way = _places([(rows[seq].tenant_id, _waits_for(rows[seq])) for seq in by_deadline])
    in_way = [seq for _, seq in sorted(zip(of_way, by_deadline, strict=True), key=lambda placed: placed[0])]
    of_tenant = dict(zip(in_way, _places([rows[seq].tenant_id for seq in in_way]), strict=True))
    return sorted(by_deadline, key=lambda seq: of_tenant[seq])


def _waits_for(batch: Batch) -> str:
    return waiting_for(batch.mixed) if batch.mixed else batch.upstream


def _places(groups: Sequence[Hashable]) -> list[int]:
    """Return of each item how many of its group there are before it."""
    seen: Counter[Hashable] = Counter()
    places = []
    for group in groups:
        places.append(seen[group])
        seen[group] += 1
    return places
