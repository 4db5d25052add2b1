"""What the memory stores share, as tables of one database would be shared."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any, TypeVar

from app.domain.batch import Batch, Section, Usage
from app.domain.errors import KeyTaken, NotFound
from app.domain.file import File
from app.domain.lifecycle import ACTIVE, TERMINAL, Event, next_status, stamps
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
        if status in TERMINAL:
            results = self.results.get(row.batch.id, {}).values()
            fields |= {"sections": (), "usage": sum((result.usage for result in results), Usage())}
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


# A section, and the number of its batch in the order of their making.
Waiting = tuple[int, Batch, Section]


def nearest(waiting: Sequence[Waiting], limit: int) -> set[int]:
    """Return the numbers of the batches that are looked at where these sections wait, of more than `limit`.

    Half of the places are for sections with nothing outstanding. Tenants take turns for the places, and within a tenant
    its upstreams.
    """
    resting = _turns([each for each in waiting if not _outstanding(each)])
    going = _turns([each for each in waiting if _outstanding(each)])
    chosen: list[int] = []
    for some, places in ((resting, (limit + 1) // 2), (going, limit), (resting, limit)):
        chosen += [seq for seq in some if seq not in chosen][: max(places - len(chosen), 0)]
    return set(chosen)


def newest(waiting: Sequence[Waiting], limit: int) -> set[int]:
    """Return the numbers of the newest batches with a section that was never sent, in the same turns."""
    unsent = [each for each in waiting if each[2].next_task == each[2].first_task]
    return set(_turns([(seq, replace(batch, expires_at=-seq), section) for seq, batch, section in unsent])[:limit])


def _outstanding(waiting: Waiting) -> int:
    _, batch, section = waiting
    return section.outstanding(batch.lines_per_task)


def _turns(waiting: Sequence[Waiting]) -> list[int]:
    by_deadline = sorted(waiting, key=lambda each: (each[1].expires_at, each[0]))
    of_way = _places([(batch.tenant_id, section.upstream) for _, batch, section in by_deadline])
    in_way = sorted(range(len(by_deadline)), key=lambda at: of_way[at])
    of_tenant = dict(zip(in_way, _places([by_deadline[at][1].tenant_id for at in in_way]), strict=True))
    turns: list[int] = []
    for at in sorted(range(len(by_deadline)), key=lambda at: of_tenant[at]):
        if by_deadline[at][0] not in turns:
            turns.append(by_deadline[at][0])
    return turns


def _places(groups: Sequence[Hashable]) -> list[int]:
    """Return of each item how many of its group there are before it."""
    seen: Counter[Hashable] = Counter()
    places = []
    for group in groups:
        places.append(seen[group])
        seen[group] += 1
    return places
