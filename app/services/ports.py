"""What the use cases need from outside, as Protocols; the adapters have the real things, the tests the fakes.

Instants are seconds since 1970, UTC. A store's method is one transaction, committed when it returns.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from app.domain.batch import Batch, LineError, Usage
from app.domain.file import File
from app.domain.lifecycle import ACTIVE, Event, Status
from app.domain.result import Result
from app.domain.retry import Trouble


class Clock(Protocol):
    """The time of day."""

    def now(self) -> float:
        """Return the seconds since 1970, UTC."""


class FileStore(Protocol):
    """The rows of files. A deleted or expired file is as good as absent, though its row may live on."""

    def add(self, file: File) -> None: ...

    def get(self, tenant_id: str, file_id: str, now: float) -> File | None: ...

    def page(
        self, tenant_id: str, now: float, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> list[File]:
        """Return up to `limit` files that follow the file `after`; NotFound where `after` is no file of the tenant."""

    def mark_deleted(self, tenant_id: str, file_id: str, now: float) -> bool:
        """Hide the file from now on; False where it was not there."""

    def removable(self, now: float, limit: int) -> list[File]:
        """Return files deleted or expired whose blob no unfinished batch reads."""

    def remove(self, file_id: str) -> None:
        """Delete the row for good."""

    def blobs(self, keys: Sequence[str]) -> set[str]:
        """Return those of `keys` that a file or an unfinished batch's plan owns; a batch's input is its file's."""


class Progress(NamedTuple):
    """Where a batch stands right after results were recorded."""

    batch_id: str
    is_dispatched_whole: bool
    is_recorded_whole: bool
    # Lines handed out that have no result yet.
    lines_outstanding: int


class Planned(NamedTuple):
    """What validation found out."""

    plan_blob: str
    lines_per_task: int
    total: int
    model: str | None


class Written(NamedTuple):
    """What finalizing wrote; None for a file that would have no line."""

    output: File | None
    errors: File | None
    usage: Usage


class BatchStore(Protocol):
    """The rows of batches. Status is moved by `advance` and what calls it, and by nothing else."""

    def add(self, batch: Batch) -> None: ...

    def get(self, tenant_id: str, batch_id: str) -> Batch | None: ...

    def find(self, batch_id: str) -> Batch | None:
        """Return the batch whoever owns it."""

    def page(self, tenant_id: str, *, after: str | None, limit: int) -> list[Batch]:
        """Return up to `limit` batches after `after`, newest first; NotFound where `after` is none of the tenant's."""

    def advance(self, batch_id: str, event: Event, now: float) -> Batch:
        """Apply an event; StateConflict where the status does not take it or there is no such batch."""

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        """Apply ACCEPTED together with the plan."""

    def reject(self, batch_id: str, errors: Sequence[LineError], now: float) -> Batch:
        """Apply REJECTED together with the reasons."""

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        """Apply FILES_WRITTEN together with the files' rows; StateConflict where the lease is no longer `token`'s."""

    def seal(self, batch_id: str, token: str, now: float) -> Batch:
        """Take no result from now on, and count a try; ALL_RECORDED is applied where in_progress is recorded whole.

        StateConflict where the batch is in_progress with lines missing, or the lease is no longer `token`'s.
        """

    def lease(self, batch_id: str, token: str, now: float, seconds: float) -> bool:
        """Take or extend the one lease to validate or finalize the batch; False where another holds it."""

    def release(self, batch_id: str, token: str) -> None:
        """Give the lease up."""

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        """Count tasks up to `to_task` as dispatched; False where the cursor moved meanwhile or nothing may be sent."""

    def active(self, limit: int, statuses: Collection[Status] = ACTIVE) -> list[Batch]:
        """Return unfinished batches in one of these statuses, the nearest deadline first."""

    def statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        """Return the status of each batch that exists."""

    def stalled(self, now: float, limit: int) -> list[Batch]:
        """Return batches that are validating or past recording and that nobody holds a lease on."""


class ResultStore(Protocol):
    """The results of lines, each recorded once."""

    def record(self, results: Sequence[Result]) -> list[Progress]:
        """Insert results of any batches and count the new ones; those of a sealed or finished batch are dropped."""

    def recorded(self, batch_id: str, first: int, end: int) -> set[int]:
        """Return the positions in [first, end) that have a result."""

    def counts_by_task(self, batch_id: str, lines_per_task: int) -> dict[int, int]:
        """Return how many results each task has, tasks without any left out."""

    def read(self, batch_id: str) -> Iterator[tuple[int, bool, bytes, Usage]]:
        """Yield position, ok, payload and usage in order of position, a bounded number in memory at once."""

    def clear(self, limit: int) -> int:
        """Delete up to `limit` results of batches that have ended with their files; 0 where none is left."""


class KeyStore(Protocol):
    """API keys, kept as hashes."""

    def tenant_of(self, key_hash: str) -> str | None: ...

    def add(self, key_hash: str, tenant_id: str, now: float) -> None:
        """Store a key; one that is there already stays as it is."""

    def is_empty(self) -> bool: ...


class IdempotencyStore(Protocol):
    """First answers to requests that carried an Idempotency-Key."""

    def claim(self, tenant_id: str, key: str, fingerprint: str, object_id: str, now: float) -> tuple[str, str]:
        """Store what the key stands for, unless it stands for something; return (fingerprint, object id) as stored."""

    def release(self, tenant_id: str, key: str) -> None:
        """Forget the key: its request failed."""

    def release_stale(self, tenant_id: str, key: str, before: float) -> bool:
        """Forget the key if it was claimed before this instant; return whether it was."""

    def clear(self, before: float) -> int:
        """Forget keys claimed before this instant."""


class BlobWriter(Protocol):
    """A blob being written: it exists under its key only once `commit` returned."""

    def write(self, data: bytes) -> int:
        """Append; StorageFull where there is no room."""

    def commit(self) -> None: ...

    def discard(self) -> None:
        """Leave nothing behind; after a commit it does nothing."""


class Blobs(Protocol):
    """Byte strings by key; a key is `name/name`, written once."""

    def create(self, key: str) -> BlobWriter: ...

    def size(self, key: str) -> int:
        """Return the number of bytes; BlobMissing."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on, fewer than `length` at the end; BlobMissing."""

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes in pieces of up to 1 MiB; BlobMissing."""

    def delete(self, key: str) -> None:
        """Delete the blob if it is there."""

    def stale(self, before: float) -> Iterator[str]:
        """Yield the keys of blobs last written before this instant, unfinished ones included."""


class Answer(NamedTuple):
    """What a call to an upstream came to.

    With an HTTP answer: `status`, `request_id` and `body`, which is JSON. Without one: `error`, a code and a message.
    """

    trouble: Trouble
    status: int = 0
    request_id: str = ""
    body: bytes = b""
    usage: Usage = Usage()
    retry_after_s: float | None = None
    error: tuple[str, str] | None = None


class Upstream(Protocol):
    """The model servers."""

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        """Post `body` to the endpoint; never raises but for cancellation."""


class ModelCatalog(Protocol):
    """What the upstreams serve."""

    def models(self) -> list[dict[str, object]]:
        """Return the upstream's model objects, each with an `id`; Unavailable."""


class LineTask(NamedTuple):
    """One Celery task of a batch: its number, and the positions from `first` up to and without `end`."""

    number: int
    first: int
    end: int


class Queue(Protocol):
    """Messages to the other processes: ids only, each safe to deliver twice."""

    def validate(self, batch_id: str) -> None: ...

    def refill(self) -> None: ...

    def close(self, batch_id: str) -> None:
        """Ask control to send nothing more of a batch that was cancelled or has expired, and to end it."""

    def finalize(self, batch_id: str) -> None: ...

    def open_chord(self, batch_id: str, tasks: int) -> None:
        """Fix how many line tasks must return before the chord's callback finalizes the batch."""

    def close_chord(self, batch_id: str, dispatched: int, tasks: int) -> None:
        """Lower that number to the tasks already sent, and send one that returns at once."""

    def publish_lines(self, batch_id: str, tasks: Sequence[LineTask], *, is_repeat: bool) -> None:
        """Send line tasks; with `is_repeat` their worker looks first which lines have a result."""

    def queued_tasks(self) -> set[str]:
        """Return the ids of the line tasks that wait in the queue."""

    def forget(self, batch_id: str) -> None:
        """Drop what the broker keeps for the batch's chord."""


class WorkerState(NamedTuple):
    """What a live worker says of itself each second."""

    name: str
    concurrency: int
    lines_per_s: float
    held_tasks: tuple[str, ...]


class Roster(Protocol):
    """Who is alive, and what only lives as long as the broker does."""

    def report(self, state: WorkerState) -> None:
        """Say that this worker lives; believed for a few seconds."""

    def leave(self, name: str) -> None:
        """Say that this worker ends: what it held is free."""

    def workers(self) -> list[WorkerState]:
        """Return the workers that reported lately."""

    def swap_suspects(self, batch_id: str, task_numbers: Sequence[int]) -> set[int]:
        """Store the tasks that seem lost now; return those that seemed so the last time too."""

    def lock(self, name: str, seconds: float) -> AbstractContextManager[bool]:
        """Hold a lock that ends by itself after `seconds`; yields False where another has it."""

    def is_first(self, name: str, seconds: float) -> bool:
        """Return True to one caller in each span of `seconds`."""
