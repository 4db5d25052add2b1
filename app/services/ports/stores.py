"""The database, as the use cases see it. A method is one transaction, committed when it returns."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from app.domain.batch import Batch, InFlight, LineError, RunningTotal, Section, Usage, cut_into_sections
from app.domain.file import File
from app.domain.lifecycle import Event, Status
from app.domain.result import Met, Result
from app.domain.upstream import DEFAULT_UPSTREAM


class Claim(NamedTuple):
    """The Idempotency-Key of a request, and a hash that is equal for equal requests."""

    key: str
    fingerprint: str


class Known(NamedTuple):
    """The request and the object of a stored Idempotency-Key."""

    fingerprint: str
    object_id: str


class FileStore(Protocol):
    """The rows of files. A deleted or expired file counts as absent, though its row may live on."""

    def add(self, file: File, claim: Claim | None = None) -> None:
        """Store the file together with its key; if the key is taken, store nothing and raise KeyTaken."""

    def get(self, tenant_id: str, file_id: str, now: float) -> File | None: ...

    def page(
        self, tenant_id: str, now: float, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> list[File]:
        """Return up to `limit` files after the file `after`; raise NotFound if `after` is no file of the tenant."""

    def mark_deleted(self, tenant_id: str, file_id: str, now: float) -> bool:
        """Hide the file from now on; return False if the file did not exist."""

    def removable(self, now: float, limit: int) -> list[File]:
        """Return deleted or expired files whose blob no batch reads, neither an unfinished batch nor a future batch."""

    def remove(self, file_id: str) -> None:
        """Delete the row for good."""

    def blobs(self, keys: Sequence[str]) -> set[str]:
        """Return the `keys` that a file or an unfinished batch's plan owns; a batch's input belongs to its file."""


class Progress(NamedTuple):
    """The state of a section, and of its batch, right after results of the section were recorded."""

    batch_id: str
    is_dispatched_whole: bool
    is_recorded_whole: bool
    # Lines handed out that have no result yet.
    lines_outstanding: int
    upstream: str = DEFAULT_UPSTREAM


# The prefix of a lease's owner that keeps every process off a batch for a pause.
PAUSED = "paused-"


class Lease(NamedTuple):
    """The process that validates or finalizes a batch, and the number of its renewals."""

    batch_id: str
    owner: str
    renewals: int


class Planned(NamedTuple):
    """The findings of validation."""

    plan_blob: str
    lines_per_task: int
    # The upstreams and their numbers of lines, in the order of the plan.
    lines: Sequence[tuple[str, int]]
    # The model that all lines share.
    model: str | None
    # Tells the order of the plan's lines, should the plan be lost.
    plan_digest: str | None = None

    @property
    def total(self) -> int:
        """The number of lines in the whole batch."""
        return sum(count for _, count in self.lines)

    @property
    def sections(self) -> tuple[Section, ...]:
        """The batch's tasks by upstream, in the order of the plan."""
        return cut_into_sections(self.lines, self.lines_per_task)


class Written(NamedTuple):
    """The files that finalizing wrote; None for a file without lines."""

    output: File | None
    errors: File | None
    # The lines of a batch that ended before its validation; None if the plan has told the number.
    total: int | None = None


class Move(NamedTuple):
    """A move of the cursor of a section, over the tasks from `from_task` up to and without `to_task`."""

    batch_id: str
    from_task: int
    to_task: int


class BatchStore(Protocol):
    """The rows of batches. Only `advance`, and methods built on it, move the status."""

    def add(self, batch: Batch, *, input_at: float | None = None, claim: Claim | None = None) -> None:
        """Store a new batch together with its key; if the key is taken, store nothing and raise KeyTaken.

        With `input_at`, the input file must exist at that instant, or NotFound is raised. A single transaction checks
        and stores, so the file's bytes are kept from here on until the batch ends.
        """

    def get(self, tenant_id: str, batch_id: str) -> Batch | None: ...

    def find(self, batch_id: str) -> Batch | None:
        """Return the batch, of any tenant."""

    def input_bytes(self, input_blob: str) -> int | None:
        """Return how many bytes were uploaded as a batch's input; None if no file tells."""

    def page(self, tenant_id: str, *, after: str | None, limit: int) -> list[Batch]:
        """Return up to `limit` batches after `after`, newest first; NotFound if `after` is no batch of the tenant."""

    def advance(self, batch_id: str, event: Event, now: float) -> Batch:
        """Apply an event; raise StateConflict if the status does not take the event or the batch does not exist."""

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        """Apply ACCEPTED together with the plan, and free the batch of its lease."""

    def reject(self, batch_id: str, errors: Sequence[LineError], now: float) -> Batch:
        """Apply REJECTED together with the reasons, and free the batch of its lease."""

    def give_up(self, batch_id: str, reasons: Sequence[LineError], now: float) -> Batch:
        """Apply GAVE_UP together with the reasons; results stay."""

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        """Apply FILES_WRITTEN together with the files' rows; raise StateConflict if `token` has lost the lease.

        The batch's usage is what its results have reported.
        """

    def seal(self, batch_id: str, token: str, now: float) -> Batch:
        """Take the lease, take no result from now on, and count a try.

        An in_progress batch with every result gets ALL_RECORDED. Raises StateConflict if the batch is in_progress with
        lines missing, or another process has the lease.
        """

    def excuse_try(self, batch_id: str, token: str) -> None:
        """Take back a try that `seal` counted, while `token` has the lease: the fault is not the batch's."""

    def lease(self, batch_id: str, token: str) -> bool:
        """Take or renew the lease to validate or finalize the batch; return False if another process has the lease."""

    def release(self, batch_id: str, token: str) -> None:
        """Give the lease up."""

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        """Count tasks of one section, from `from_task` up to and without `to_task`, as dispatched.

        Returns False if the section's cursor is not at `from_task`, the section has fewer tasks, or nothing may be
        sent.
        """

    def move_free_cursors(self, moves: Sequence[Move]) -> set[str]:
        """Apply moves as `move_cursor` does, of different batches and in one transaction; return the moved batches.

        Leaves out the sections that other transactions hold at the moment.
        """

    def expired(self, now: float, limit: int) -> list[Batch]:
        """Return batches that are validating or in progress past their window, the nearest deadline first."""

    def active_ids(self) -> set[str]:
        """Return the ids of the batches that have not ended."""

    def count_active(self) -> dict[Status, int]:
        """Return the number of batches in each status that is no end; statuses without a batch are left out."""

    def undispatched(self, limit: int) -> list[Batch]:
        """Return batches in progress with lines that were never handed out, the nearest deadline first.

        Above `limit`, `domain.looks.choose` selects the batches by their sections. An eighth more are the newest
        batches with a section that has had no line handed out.
        """

    def in_flight(self) -> list[InFlight]:
        """Return the batches in progress with lines outstanding, the nearest deadline first."""

    def outstanding_totals(self) -> dict[tuple[str, str], RunningTotal]:
        """Return the outstanding lines of batches in progress, by upstream and tenant."""

    def bound_elsewhere(self, upstreams: Collection[str]) -> list[tuple[str, str, int]]:
        """Return the sections of batches in progress with lines that lack a result, for upstreams outside `upstreams`.

        A section is its upstream, its batch's id and the number of these lines; the nearest deadline comes first.
        """

    def statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        """Return the status of each batch that exists."""

    def leases(self) -> list[Lease]:
        """Return the held leases."""

    def pause_lease(self, batch_id: str, token: str) -> None:
        """Give the lease up, and bar the batch to every process for a while; the owner is then PAUSED and the token."""

    def break_lease(self, lease: Lease) -> bool:
        """Free the batch of a lease, unless the lease was renewed or given up meanwhile."""

    def stalled(self, limit: int) -> list[Batch]:
        """Return batches without a lease that are validating, recorded whole or ending.

        The nearest deadlines come first.
        """


class ResultStore(Protocol):
    """The results of lines, recorded once for each line."""

    def record(self, results: Sequence[Result]) -> list[Progress]:
        """Insert results of any batches and count the new results; drop results of a sealed or finished batch."""

    def recorded(self, batch_id: str, first: int, end: int) -> set[int]:
        """Return the positions in [first, end) that have a result, of a batch that has not ended."""

    def unrecorded(self, batch_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the positions of lines handed out without a result, in order, of batches in progress."""

    def read(self, batch_id: str) -> Iterator[tuple[int, bool, bytes, Usage]]:
        """Yield position, ok, payload and usage in order of position, a bounded number in memory at once."""

    def read_in(self, batch_id: str, order: Sequence[int]) -> Iterator[tuple[int, bool, bytes, Usage]]:
        """Yield like `read`, for positions in this order, each given once; positions without a result are left out."""

    def clear(self, limit: int) -> int:
        """Delete about `limit` results of batches that have ended with their files, in one transaction.

        Returns the number deleted: at least 1 while more results are left, and 0 once no batch has results to delete.
        """


class TickStore(Protocol):
    """The numbers of finished ticks."""

    def note(self, done: Mapping[str, int], clock: float) -> None:
        """Add to the counts by kind, and store the clock of the process that counts."""

    def done(self) -> dict[str, int]:
        """Return the count of each kind that was ever counted."""

    def clock(self, kind: str) -> float | None:
        """Return the clock of the process that last counted a tick of this kind, as stored then."""


class TrialStore(Protocol):
    """Lines in trouble: lines of tasks that lost worker after worker, and failed calls of lines without a result."""

    def begin(self, batch_id: str, position: int) -> int:
        """Note that the line starts; return the number of earlier starts without an end."""

    def end(self, batch_id: str, position: int) -> None:
        """Forget the line: whatever its outcome, its process lives."""

    def clear(self) -> int:
        """Forget the lines of batches that have ended, and their failed calls; return how many were forgotten."""

    def note(self, met: Mapping[tuple[str, int], Met]) -> None:
        """Note the failed calls of lines without a result, by batch and position; the most tries noted stay."""

    def met(self, batch_id: str) -> dict[int, Met]:
        """Return the noted failed calls of a batch's lines, by position."""
