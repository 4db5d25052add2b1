"""Finalization: one path to the files for batches that completed, were cancelled or expired."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

import structlog

from app.domain import ids, result
from app.domain.batch import Batch
from app.domain.errors import BlobMissing, NotWritten, StateConflict, StorageFull, Unavailable
from app.domain.file import PURPOSE_BATCH_OUTPUT, File
from app.domain.file_work import Work
from app.domain.lifecycle import ACTIVE, Status
from app.domain.limits import MAX_FILE_LIFETIME_S, MIB
from app.domain.plan import ENTRY_BYTES, input_order, order_digest
from app.services.leases import Lease, Leases
from app.services.never_ran import NeverRan, lines_without_plan
from app.services.ports import BatchStore, Blobs, BlobWriter, Clock, Queue, ResultStore, Written, read_whole

log = structlog.get_logger()

# The size of a usual answer with the rest of the line: to know real sizes the database would have to read every result.
_BYTES_PER_LINE = 4 * 1024
# Lines are handed to the blob in pieces of about this size.
_PIECE_BYTES = 256 * 1024


class FinalizationService:
    """Writes the output and the error file of a batch and ends the batch."""

    def __init__(
        self,
        batches: BatchStore,
        results: ResultStore,
        blobs: Blobs,
        queue: Queue,
        clock: Clock,
        leases: Leases | None = None,
        find_met: Callable[[str], Mapping[int, result.Met]] = lambda _: {},
    ) -> None:
        self._leases = leases or Leases(batches, clock)
        self._batches = batches
        self._results = results
        self._blobs = blobs
        self._queue = queue
        self._clock = clock
        self._find_met = find_met

    def work(self, batch_id: str) -> Work | None:
        """Return the work on a batch's files; None if the batch has ended or is being validated."""
        batch = self._batches.find(batch_id)
        if batch is None or batch.status not in ACTIVE - {Status.VALIDATING}:
            return None
        size = batch.total * _BYTES_PER_LINE
        if batch.plan_blob is None and batch.input_blob is not None:
            with suppress(BlobMissing):
                size = self._blobs.size(batch.input_blob)
        return Work(batch.tenant_id, size, is_write=True)

    def finalize(self, batch_id: str, rest: Callable[[], None] = lambda: None) -> bool:
        """Seal the batch, write its files, end it; return False if no work is left or another process is at work.

        Safe to call at any time and by any process. After a failure the lease is kept for a pause, before upkeep has
        the batch tried again.

        Args:
            batch_id: the batch.
            rest: called after each MiB or so, to let other work go on.
        """
        sealed: list[Batch] = []

        def seal(token: str) -> bool:
            # The same write takes the lease.
            with suppress(StateConflict):
                sealed.append(self._batches.seal(batch_id, token, self._clock.now()))
            return bool(sealed)

        with self._leases.hold(batch_id, seal) as lease:
            return lease is not None and self._end(sealed[0], lease, rest)

    def _end(self, batch: Batch, lease: Lease, rest: Callable[[], None]) -> bool:
        files = _Files(self._blobs, batch, lease.token)
        try:
            written = self._write(batch, files, lease, rest)
            output, errors = files.commit(self._clock.now(), lease)
        except BlobMissing as fault:
            files.discard()
            self._have_mended(batch.id, lease, fault)
            return False
        except BaseException as fault:
            files.discard()
            if isinstance(fault, (StorageFull, Unavailable)):
                self._excuse(batch.id, lease.token)
            raise
        try:
            written = written._replace(output=output, errors=errors)
            ended = lease.end(lambda: self._batches.finish(batch.id, written, lease.token, self._clock.now()))
        except StateConflict:
            files.discard()
            return False
        except NotWritten:
            files.discard()
            raise
        # Any other error leaves open whether the batch ended with the files: the files stay, and upkeep deletes files
        # without an owner.
        log.info("batch.ended", batch_id=batch.id, status=ended.status, total=ended.total, failed=ended.failed)
        if batch.plan_blob is not None:
            with suppress(Unavailable):
                self._blobs.delete(batch.plan_blob)
        self._queue.forget(batch.id)
        return True

    def _have_mended(self, batch_id: str, lease: Lease, fault: BlobMissing) -> None:
        """Leave the batch to the process that writes the plan anew; upkeep asks for the files again."""
        log.warning("blob.missing", batch_id=batch_id, error=str(fault))
        self._excuse(batch_id, lease.token)
        lease.release()
        self._queue.validate(batch_id)

    def _excuse(self, batch_id: str, token: str) -> None:
        # Room and connections come back; tries count faults of the batch itself.
        try:
            self._batches.excuse_try(batch_id, token)
        except (StorageFull, Unavailable):
            log.warning("batch.try_not_excused", batch_id=batch_id, exc_info=True)

    def _write(self, batch: Batch, files: "_Files", lease: Lease, rest: Callable[[], None]) -> Written:
        total = unrested = 0
        for ok, payload in self._lines(batch, lease, rest):
            files.add(ok, payload)
            total += 1
            unrested += len(payload)
            if unrested >= MIB:
                rest()
                unrested = 0
            # A look at the clock for each line: a few hundred of the largest lines may take longer than the lease.
            lease.check()
        return Written(None, None, total if batch.plan_blob is None else None)

    def _lines(self, batch: Batch, lease: Lease, rest: Callable[[], None]) -> Iterator[tuple[bool, bytes]]:
        """Yield ok and payload of each line of the batch, in the order of the caller's file."""
        if batch.input_blob is None:
            return
        if batch.plan_blob is None:
            with suppress(BlobMissing):
                for payload in lines_without_plan(batch, _held(self._blobs.stream(batch.input_blob), lease, rest)):
                    yield False, payload
            return
        # The plan has 1.6 MB at most, and is the only part of a batch that is held whole.
        plan = read_whole(self._blobs, batch.plan_blob, 0, batch.total * ENTRY_BYTES)
        if batch.plan_digest not in (None, order_digest(plan)):
            raise BlobMissing(f"The plan of {batch.id} is not the one that was written.")
        order = input_order(plan)
        results = self._results.read(batch.id) if order is None else self._results.read_in(batch.id, order)
        positions = iter(range(batch.total) if order is None else order)
        never_ran = NeverRan(self._blobs, batch, batch.input_blob, plan, self._find_met)
        for position, ok, payload, _ in results:
            for due in positions:
                if due == position:
                    break
                yield False, never_ran.payload(due)
            yield ok, payload
        for due in positions:
            yield False, never_ran.payload(due)


def _held(pieces: Iterable[bytes], lease: Lease, rest: Callable[[], None]) -> Iterator[bytes]:
    """Pass pieces on; raise StateConflict if the lease is lost on the way."""
    for piece in pieces:
        yield piece
        rest()
        lease.check()


class _Files:
    """The output and the error file during their writing; a file without lines is never made."""

    def __init__(self, blobs: Blobs, batch: Batch, token: str) -> None:
        self._batch = batch
        self._output = _LineFile(blobs, batch.id, "output", token)
        self._errors = _LineFile(blobs, batch.id, "error", token)

    def add(self, ok: bool, payload: bytes) -> None:
        (self._output if ok else self._errors).add(payload)

    def commit(self, now: float, lease: Lease) -> tuple[File | None, File | None]:
        return self._output.commit(self._batch, now, lease), self._errors.commit(self._batch, now, lease)

    def discard(self) -> None:
        self._output.discard()
        self._errors.discard()


class _LineFile:
    def __init__(self, blobs: Blobs, batch_id: str, kind: str, token: str) -> None:
        self._blobs = blobs
        self._filename = f"{batch_id}_{kind}.jsonl"
        # Each try writes its own blobs: two finalizers never write into one blob.
        self._key = f"results/{batch_id}-{kind}-{token.rpartition('-')[2]}"
        self._writer: BlobWriter | None = None
        self._lines: list[bytes] = []
        self._waiting = 0
        self._bytes = 0

    def add(self, payload: bytes) -> None:
        self._lines.append(payload)
        self._waiting += len(payload) + 1
        if self._waiting >= _PIECE_BYTES:
            self._flush()

    def commit(self, batch: Batch, now: float, lease: Lease) -> File | None:
        self._flush()
        if self._writer is None:
            return None
        # The remaining sync has nearly the whole lease for itself.
        lease.freshen()
        self._writer.commit()
        return File(
            id=ids.new_file_id(),
            tenant_id=batch.tenant_id,
            purpose=PURPOSE_BATCH_OUTPUT,
            filename=self._filename,
            bytes=self._bytes,
            blob=self._key,
            created_at=now,
            expires_at=now + (batch.output_lifetime_s or MAX_FILE_LIFETIME_S),
        )

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()
            # A blob that can't be deleted now has no owner: the sweep deletes it.
            with suppress(Unavailable):
                self._blobs.delete(self._key)

    def _flush(self) -> None:
        if not self._lines:
            return
        if self._writer is None:
            self._writer = self._blobs.create(self._key)
        self._lines.append(b"")
        self._writer.write(b"\n".join(self._lines))
        self._bytes += self._waiting
        self._lines, self._waiting = [], 0
