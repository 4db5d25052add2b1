"""Check a batch's input file and make its plan.

The file's structure comes from a pass that holds a line at a time, or from an earlier pass over the same bytes. The
part that depends on settings, namely where lines of each model go, is looked up each time.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import structlog

from app.domain.batch import Batch, LineError, input_missing
from app.domain.errors import BlobMissing, NotWritten, StateConflict, Unavailable
from app.domain.file_work import Work
from app.domain.lifecycle import ACTIVE, Status
from app.domain.limits import MAX_LINE_ERRORS, MIB
from app.domain.line import endpoint_not_found, model_not_found
from app.domain.plan import (
    PlanEntry,
    in_dispatch_order,
    lines_per_task,
    order_digest,
    pack_entry,
)
from app.domain.prefix import MAX_GROUPS_AT_ONCE, model_hash
from app.domain.source_lines import read_lines
from app.domain.structure import Structure, read_structure, unpack_structure
from app.services.leases import Lease, Leases
from app.services.mending import Mending
from app.services.ports import BatchStore, Blobs, Clock, Planned
from app.services.verdicts import Verdicts

log = structlog.get_logger()

# If the batch was cancelled meanwhile, reading stops within this many bytes.
_LOOK_EVERY_BYTES = 8 * MIB


# Returns the upstream's name for a model (None for lines without a model) and an endpoint.
Route = Callable[[str | None, str], str | None]


class ValidationService:
    """Moves a batch from validating to in_progress or failed.

    Args:
        batches: the rows of batches.
        blobs: the store with the input, and for the plan.
        clock: the time of day.
        leases: the leases of this process; by default leases that only the work itself renews.
        route: returns the upstream's name for a line's model and endpoint; None if no upstream matches.
        pinned_lines_per_task: the operator's number of lines a task; None to derive it from the number of lines.
        groups_at_once: how many groups of lines with a common beginning are sent side by side; 0 keeps the file's
            order.
    """

    def __init__(
        self,
        batches: BatchStore,
        blobs: Blobs,
        clock: Clock,
        leases: Leases | None = None,
        *,
        route: Route,
        pinned_lines_per_task: int | None,
        groups_at_once: int = MAX_GROUPS_AT_ONCE,
    ) -> None:
        self._batches = batches
        self._blobs = blobs
        self._clock = clock
        self._leases = leases or Leases(batches, clock)
        self._route = route
        self._pinned_lines_per_task = pinned_lines_per_task
        self._groups_at_once = groups_at_once
        self._verdicts = Verdicts(blobs)
        self._mending = Mending(batches, blobs, clock, self._plan_of)

    def work(self, batch_id: str) -> Work | None:
        """Return the size and input of a batch's work; None if the batch has ended."""
        batch = self._batches.find(batch_id)
        if batch is None or batch.status not in ACTIVE:
            return None
        size = 0
        if batch.input_blob is not None:
            with suppress(BlobMissing):
                size = self._blobs.size(batch.input_blob)
        return Work(batch.tenant_id, size, batch.input_blob)

    def validate(self, batch_id: str, rest: Callable[[], None] = lambda: None) -> bool:
        """Accept or reject a batch; return whether this call accepted the batch.

        For a batch that was accepted earlier, mend blobs missing from storage, or give the batch up.

        Idempotent, also for two calls at once: only one call holds the lease, and a batch past validating stays
        unchanged.

        Args:
            batch_id: the batch.
            rest: called after each MiB of the input, to let other work go on.

        Raises:
            StorageFull: there is no room for the plan; the batch stays unchanged, for a later try.
        """
        with self._leases.hold(batch_id) as lease:
            batch = self._batches.find(batch_id)
            if lease is None or batch is None or batch.status not in ACTIVE:
                return False
            if batch.status is Status.VALIDATING:
                return self._validate(batch, lease, rest)
            # On a conflict another process took the lease meanwhile, and does the work.
            with suppress(StateConflict):
                self._mending.mend(batch, lambda: self._structure_of(batch, lease, rest))
            return False

    def _validate(self, batch: Batch, lease: Lease, rest: Callable[[], None]) -> bool:
        plan_blob = f"plans/{batch.id}-{lease.token.rpartition('-')[2]}"
        plan = self._blobs.create(plan_blob)
        try:
            structure = self._structure_of(batch, lease, rest)
            routed = None if structure is None else _Routed(structure, batch.endpoint, self._route)
            errors = [input_missing(batch)] if routed is None else routed.errors()
            if structure is None or routed is None or errors:
                lease.end(lambda: self._batches.reject(batch.id, errors, self._clock.now()))
                log.info("batch.rejected", batch_id=batch.id, code=errors[0].code, errors=len(errors))
            else:
                ordered, counts = in_dispatch_order(routed.plan(), self._groups_at_once)
                plan.write(ordered)
                plan.commit()
                per_task = lines_per_task(structure.total, self._pinned_lines_per_task)
                lines = list(zip(routed.upstreams, counts, strict=True))
                planned = Planned(plan_blob, per_task, lines, routed.model, order_digest(ordered))
                # On any error but a conflict or an undone write, the batch may still have been accepted with this
                # plan: the plan stays, and upkeep deletes a plan without an owner.
                lease.end(lambda: self._batches.accept(batch.id, planned, self._clock.now()))
                log.info("batch.accepted", batch_id=batch.id, total=structure.total, lines_per_task=per_task)
        except (StateConflict, NotWritten) as fault:
            # A blob that can't be deleted now has no owner: the sweep deletes it.
            with suppress(Unavailable):
                self._blobs.delete(plan_blob)
            if isinstance(fault, NotWritten):
                raise
            # The batch was cancelled, ran out of time or got a second validator meanwhile: no work is left.
            return False
        finally:
            # A committed plan is not affected.
            plan.discard()
        return not errors

    def _plan_of(self, batch: Batch, structure: Structure, groups_at_once: int) -> bytes:
        """Return the plan of a batch that was accepted earlier, perhaps with different models configured."""
        first, *others = (section.upstream for section in batch.sections)

        def route(model: str | None, endpoint: str) -> str:
            found = self._route(model, endpoint) if others else None
            return found or first

        return in_dispatch_order(_Routed(structure, batch.endpoint, route).plan(), groups_at_once)[0]

    def _structure_of(self, batch: Batch, lease: Lease, rest: Callable[[], None]) -> Structure | None:
        """Return the structure of the batch's file; None if bytes of the file are gone."""
        # The batch keeps the bytes from its creation on, even if the file is deleted.
        if batch.input_blob is None:
            return None
        try:
            # A file that is cut short, as by a restore, would be read as a shorter file with fewer lines.
            if self._batches.input_bytes(batch.input_blob) not in (None, self._blobs.size(batch.input_blob)):
                return None
            known = self._verdicts.find(batch.input_blob, batch.endpoint)
            if known is not None:
                return known
            pieces = _Counted(self._held(self._blobs.stream(batch.input_blob), batch, lease, rest))
            structure = read_structure(read_lines(pieces), batch.endpoint)
        except BlobMissing:
            return None
        self._verdicts.keep(batch.input_blob, batch.endpoint, structure, pieces.bytes)
        return structure

    def _held(self, pieces: Iterable[bytes], batch: Batch, lease: Lease, rest: Callable[[], None]) -> Iterator[bytes]:
        """Pass pieces on; raise StateConflict if the lease is lost, or a new batch was cancelled meanwhile."""
        unlooked = 0
        for piece in pieces:
            yield piece
            rest()
            lease.check()
            unlooked += len(piece)
            # A plan that is written anew is needed even if the batch ends.
            if unlooked >= _LOOK_EVERY_BYTES and batch.status is Status.VALIDATING:
                unlooked = 0
                if self._batches.statuses([batch.id]).get(batch.id) is not Status.VALIDATING:
                    raise StateConflict(f"{batch.id} was cancelled or expired meanwhile.")


class _Counted:
    """Pieces of a blob, and the number of bytes so far."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.bytes += len(piece)
            yield piece


class _Routed:
    """A structure with the models of today: errors, or the upstream of each line."""

    def __init__(self, structure: Structure, endpoint: str, route: Route) -> None:
        self._structure = structure
        self._endpoint = endpoint
        # The upstreams, in the order of their first lines in the file.
        self.upstreams: list[str] = []
        # By the place of the model: the upstream's index and the model's hash; None if no upstream matches.
        self._routes: list[tuple[int, int] | None] = []
        for model in structure.models:
            name = route(model, endpoint)
            if name is not None and name not in self.upstreams:
                self.upstreams.append(name)
            self._routes.append(None if name is None else (self.upstreams.index(name), model_hash(model)))

    @property
    def model(self) -> str | None:
        """The model that all lines share."""
        return self._structure.models[0] if len(self._structure.models) == 1 else None

    def errors(self) -> list[LineError]:
        """Return the errors of the file; a fault of the whole file stands alone."""
        found = self._structure
        if found.file_error is not None:
            return [found.file_error]
        bad_lines, of_models = found.bad_lines, list[LineError]()
        if None in self._routes:
            for number, model, *_ in unpack_structure(found.entries):
                if self._routes[model] is None:
                    bad_lines += 1
                    if len(of_models) < MAX_LINE_ERRORS:
                        of_models.append(self._not_found(number, found.models[model]))
        said = sorted([*found.line_errors, *of_models], key=lambda error: error.line or 0)[:MAX_LINE_ERRORS]
        unsaid = bad_lines - len(said)
        if unsaid:
            text = f"{unsaid:,} more {'line has' if unsaid == 1 else 'lines have'} errors that are not listed here."
            said.append(LineError("too_many_errors", text))
        return said

    def plan(self) -> bytearray:
        """Return the entries of the plan in the order of the file; the file must have no errors."""
        plan = bytearray()
        routes = [route or (0, 0) for route in self._routes]
        for number, model, offset, length, tokens, prefix_key in unpack_structure(self._structure.entries):
            upstream, hashed = routes[model]
            plan += pack_entry(PlanEntry(number, offset, length, upstream, prefix_key, hashed, tokens))
        return plan

    def _not_found(self, number: int, model: str | None) -> LineError:
        fault = endpoint_not_found(self._endpoint) if model is None else model_not_found(model)
        return LineError(fault.code, fault.message, number, fault.param)
