"""The database, as the use cases see it. A method is one transaction, committed when it returns."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from app.domain.api_key import ApiKey
from app.domain.batch import Batch, InFlight, LineError, RunningTotal, Section, Usage
from app.domain.file import File
from app.domain.lifecycle import Event, Status
from app.domain.result import Met, Result
from app.domain.upstream import DEFAULT_UPSTREAM


class Claim(NamedTuple):
    """The Idempotency-Key that a request carries, and a hash that is equal for equal requests."""

    key: str
    fingerprint: str


class Known(NamedTuple):
    """What an Idempotency-Key stands for."""

    fingerprint: str
    object_id: str


class FileStore(Protocol):
    """The rows of files. A deleted or expired file is as good as absent, though its row may live on."""

    def add(self, file: File, claim: Claim | None = None) -> None:
        """Store the file together with its key; KeyTaken, and nothing is stored, where the key is taken."""

    def get(self, tenant_id: str, file_id: str, now: float) -> File | None: ...

    def page(
        self, tenant_id: str, now: float, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> list[File]:
        """Return up to `limit` files that follow the file `after`; NotFound where `after` is no file of the tenant."""

    def mark_deleted(self, tenant_id: str, file_id: str, now: float) -> bool:
        """Hide the file from now on; False where it was not there."""

    def removable(self, now: float, limit: int) -> list[File]:
        """Return files deleted or expired whose blob no unfinished batch reads, nor any that is created from now on."""

    def remove(self, file_id: str) -> None:
        """Delete the row for good."""

    def blobs(self, keys: Sequence[str]) -> set[str]:
        """Return those of `keys` that a file or an unfinished batch's plan owns; a batch's input is its file's."""


class Progress(NamedTuple):
    """Where a batch stands right after results were recorded; where it is mixed, a section of it that got some."""

    batch_id: str
    is_dispatched_whole: bool
    is_recorded_whole: bool
    # Lines handed out that have no result yet.
    lines_outstanding: int
    upstream: str = DEFAULT_UPSTREAM


# How the owner of a lease begins that keeps others from a batch for a pause.
PAUSED = "paused-"


class Lease(NamedTuple):
    """Who validates or finalizes a batch, and how often that process has said so."""

    batch_id: str
    owner: str
    renewals: int


class Planned(NamedTuple):
    """What validation found out."""

    plan_blob: str
    lines_per_task: int
    total: int
    model: str | None
    # Where its lines go; the first of several.
    upstream: str = DEFAULT_UPSTREAM
    # Set where they go to several.
    mixed: tuple[Section, ...] = ()
    # What tells the order of the plan's lines, should the plan be lost.
    plan_digest: str | None = None

    @property
    def tasks(self) -> int:
        """Celery tasks that the whole batch is cut into."""
        return self.mixed[-1].end_task if self.mixed else -(-self.total // self.lines_per_task)


class Written(NamedTuple):
    """What finalizing wrote; None for a file that would have no line."""

    output: File | None
    errors: File | None
    usage: Usage
    # The lines of a batch that ended before it was validated; None where its plan has told how many there are.
    total: int | None = None


class BatchStore(Protocol):
    """The rows of batches. Status is moved by `advance` and what calls it, and by nothing else."""

    def add(self, batch: Batch, *, input_at: float | None = None, claim: Claim | None = None) -> None:
        """Store a new batch together with its key; KeyTaken, and nothing is stored, where the key is taken.

        With `input_at` its input file must be there at that instant, or it is NotFound. It is one transaction, so the
        file's bytes are kept from here on until the batch ends.
        """

    def get(self, tenant_id: str, batch_id: str) -> Batch | None: ...

    def find(self, batch_id: str) -> Batch | None:
        """Return the batch whoever owns it."""

    def input_bytes(self, input_blob: str) -> int | None:
        """Return how many bytes were uploaded as a batch's input; None where no file tells."""

    def page(self, tenant_id: str, *, after: str | None, limit: int) -> list[Batch]:
        """Return up to `limit` batches after `after`, newest first; NotFound where `after` is none of the tenant's."""

    def advance(self, batch_id: str, event: Event, now: float) -> Batch:
        """Apply an event; StateConflict where the status does not take it or there is no such batch."""

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        """Apply ACCEPTED together with the plan."""

    def reject(self, batch_id: str, errors: Sequence[LineError], now: float) -> Batch:
        """Apply REJECTED together with the reasons."""

    def give_up(self, batch_id: str, reasons: Sequence[LineError], now: float) -> Batch:
        """Apply GAVE_UP together with the reasons; results stay."""

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        """Apply FILES_WRITTEN together with the files' rows; StateConflict where the lease is no longer `token`'s."""

    def seal(self, batch_id: str, token: str, now: float) -> Batch:
        """Take no result from now on, and count a try; ALL_RECORDED is applied where in_progress is recorded whole.

        StateConflict where the batch is in_progress with lines missing, or the lease is no longer `token`'s.
        """

    def excuse_try(self, batch_id: str, token: str) -> None:
        """Take back a try that `seal` counted, while the lease is `token`'s: the fault is not the batch's."""

    def lease(self, batch_id: str, token: str) -> bool:
        """Take or renew the one lease to validate or finalize the batch; False where another holds it."""

    def release(self, batch_id: str, token: str) -> None:
        """Give the lease up."""

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        """Count tasks from `from_task` up to and without `to_task`, of one section, as dispatched.

        False where the section's cursor is not at `from_task`, it has fewer tasks, or nothing may be sent.
        """

    def expired(self, now: float, limit: int) -> list[Batch]:
        """Return batches that are validating or in progress past their window, the nearest deadline first."""

    def active_ids(self) -> set[str]:
        """Return the ids of all batches that have not ended."""

    def count_active(self) -> dict[Status, int]:
        """Return how many batches are in each status that is no end; statuses without a batch are left out."""

    def undispatched(self, limit: int) -> list[Batch]:
        """Return batches in progress with lines that were never handed out, the nearest deadline first.

        Of more than `limit` they are as `domain.looks.choose` says. An eighth more are the newest of those of which
        nothing was handed out.
        """

    def in_flight(self) -> list[InFlight]:
        """Return all batches in progress with lines outstanding, the nearest deadline first."""

    def outstanding_totals(self) -> dict[tuple[str, str], RunningTotal]:
        """Return what all batches in progress have outstanding, by upstream and tenant."""

    def bound_elsewhere(self, upstreams: Collection[str]) -> list[Batch]:
        """Return batches in progress that have lines for another upstream than these, or may have, by deadline."""

    def statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        """Return the status of each batch that exists."""

    def leases(self) -> list[Lease]:
        """Return the leases that are held."""

    def pause_lease(self, batch_id: str, token: str) -> None:
        """Give the lease up, and let nobody have the batch for a while; its owner is then PAUSED and the token."""

    def break_lease(self, lease: Lease) -> bool:
        """Free the batch of a lease, unless that was renewed or given up meanwhile."""

    def stalled(self, limit: int) -> list[Batch]:
        """Return batches that are validating, recorded whole or ending and that nobody holds a lease on.

        The nearest deadlines come first.
        """


class ResultStore(Protocol):
    """The results of lines, each recorded once."""

    def record(self, results: Sequence[Result]) -> list[Progress]:
        """Insert results of any batches and count the new ones; those of a sealed or finished batch are dropped."""

    def recorded(self, batch_id: str, first: int, end: int) -> set[int]:
        """Return the positions in [first, end) that have a result."""

    def count(self, batch_id: str, first: int, end: int) -> int:
        """Return how many positions in [first, end) have a result."""

    def read(self, batch_id: str) -> Iterator[tuple[int, bool, bytes, Usage]]:
        """Yield position, ok, payload and usage in order of position, a bounded number in memory at once."""

    def read_in(self, batch_id: str, order: Sequence[int]) -> Iterator[tuple[int, bool, bytes, Usage]]:
        """Yield what `read` does for positions in this order, each given once; those without a result are left out."""

    def clear(self, limit: int) -> int:
        """Delete about `limit` results of batches that have ended with their files, in one transaction.

        Returns how many, at least 1 where there is more to do, and 0 where no batch has results left to delete.
        """


class TickStore(Protocol):
    """How many ticks were done."""

    def note(self, done: Mapping[str, int], clock: float) -> None:
        """Add to the counts by kind, and write down the clock of who counts."""

    def done(self) -> dict[str, int]:
        """Return the count of each kind that was ever counted."""

    def clock(self, kind: str) -> float | None:
        """Return the clock of who counted a tick of this kind last, as it was then."""


class TrialStore(Protocol):
    """Lines in trouble: those under way whose task lost worker after worker, and what lines without a result met."""

    def begin(self, batch_id: str, position: int) -> int:
        """Note that the line starts; return how often it had started before without an end."""

    def end(self, batch_id: str, position: int) -> None:
        """Forget the line: whatever it came to, its process lives."""

    def clear(self) -> int:
        """Forget the lines of batches that have ended, and what they met; return how many."""

    def note(self, met: Mapping[tuple[str, int], Met]) -> None:
        """Note what lines without a result met, by batch and position; the most tries that were noted stay."""

    def met(self, batch_id: str) -> dict[int, Met]:
        """Return what was noted of the lines of a batch, by position."""


class KeyStore(Protocol):
    """API keys, found by a hash of their value."""

    def find(self, key_hash: str) -> ApiKey | None:
        """Return the key with this hash, also where it was revoked."""

    def add(self, key: ApiKey, key_hash: str) -> None:
        """Store a key; one with the same hash that is there already stays as it is."""

    def all(self) -> list[ApiKey]:
        """Return every key, in the order in which they were made."""

    def revoke(self, key_id: str, now: float) -> bool:
        """Mark a key as revoked; False where there is no such key in use."""

    def note_uses(self, uses: Mapping[str, float]) -> None:
        """Store when keys, by their ids, were used last; an older instant than the stored one is dropped."""


class IdempotencyStore(Protocol):
    """The keys that objects were stored with; files and batches share them."""

    def get(self, tenant_id: str, key: str) -> Known | None:
        """Return what the key stands for; None where no object was stored with it."""

    def clear(self, before: float) -> int:
        """Forget keys of objects stored before this instant."""
