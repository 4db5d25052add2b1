"""Check a batch's input file and make its plan, in one pass that holds a line at a time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple

import structlog

from app.domain.batch import Batch, LineError, cut_into_sections, input_missing
from app.domain.errors import BlobMissing, LineInvalid, StateConflict
from app.domain.ids import new_token
from app.domain.lifecycle import Status
from app.domain.limits import MAX_LINE_ERRORS, MAX_LINES
from app.domain.line import (
    MAX_EMBEDDING_INPUTS,
    CheckedLine,
    check_line,
    duplicate,
    endpoint_not_found,
    model_not_found,
    too_long,
)
from app.domain.plan import (
    ENTRY_BYTES,
    PlanEntry,
    lines_per_task,
    pack_entry,
    put_alike_together,
    put_upstreams_apart,
)
from app.domain.prefix import MAX_GROUPS_AT_ONCE, model_hash
from app.domain.source_lines import SourceLine, read_lines
from app.services.ports import BatchStore, Blobs, Clock, Planned

log = structlog.get_logger()

# A pass over the largest file takes seconds; a process that died in one is relieved after this long.
_LEASE_S = 60.0
_RENEW_AFTER_S = 15.0
# Up to here a custom_id is kept as it is to find duplicates; of longer ones a digest takes less room.
_PLAIN_ID_CHARS = 40
# Longer than any name or path of a model; what is not kept can't be searched for either.
_MAX_MODEL_CHARS = 512
_MAX_KNOWN_MODELS = 1_000


# Returns the name of the upstream for a model, or for lines that name none, and an endpoint.
Route = Callable[[str | None, str], str | None]


class ValidationService:
    """Moves a batch from validating to in_progress or failed.

    Args:
        batches: the rows of batches.
        blobs: where the input is and the plan goes.
        clock: the time of day.
        route: returns where a line with this model goes for this endpoint; None where nobody has it.
        pinned_lines_per_task: the operator's number of lines a task; None to derive it from the number of lines.
        groups_at_once: how many groups of lines that begin alike are sent side by side; 0 to send lines as they come.
    """

    def __init__(
        self,
        batches: BatchStore,
        blobs: Blobs,
        clock: Clock,
        *,
        route: Route,
        pinned_lines_per_task: int | None,
        groups_at_once: int = MAX_GROUPS_AT_ONCE,
    ) -> None:
        self._batches = batches
        self._blobs = blobs
        self._clock = clock
        self._route = route
        self._pinned_lines_per_task = pinned_lines_per_task
        self._groups_at_once = groups_at_once

    def validate(self, batch_id: str) -> bool:
        """Accept or reject a batch; return whether it was accepted by this call.

        Safe to call twice and at once: one call holds the lease, and a batch that left validating is let be.

        Raises:
            StorageFull: there is no room for the plan; the batch stays as it is, to be tried again.
        """
        batch = self._batches.find(batch_id)
        token = new_token()
        if batch is None or batch.status is not Status.VALIDATING or not self._lease(batch_id, token):
            return False
        is_accepted = self._validate(batch, token)
        # Where that raised, the lease is left to run out: the pause before upkeep has it tried again.
        self._batches.release(batch_id, token)
        return is_accepted

    def _validate(self, batch: Batch, token: str) -> bool:
        plan_blob = f"plans/{batch.id}-{token}"
        plan = self._blobs.create(plan_blob)
        try:
            check = _Check(batch.endpoint, self._route)
            errors = self._run(check, batch, token)
            if errors:
                self._batches.reject(batch.id, errors, self._clock.now())
                log.info("batch.rejected", batch_id=batch.id, code=errors[0].code, errors=len(errors))
            else:
                ordered, counts = put_upstreams_apart(check.plan)
                for piece in self._in_dispatch_order(ordered, counts):
                    plan.write(piece)
                plan.commit()
                per_task = lines_per_task(check.total, self._pinned_lines_per_task)
                mixed = cut_into_sections(list(zip(check.upstreams, counts, strict=True)), per_task)
                planned = Planned(
                    plan_blob, per_task, check.total, check.model, check.upstreams[0], mixed if len(mixed) > 1 else ()
                )
                # When this raises anything but a conflict, it may have been accepted with this plan all the same: the
                # plan stays, and upkeep deletes it if nobody owns it.
                self._batches.accept(batch.id, planned, self._clock.now())
                log.info("batch.accepted", batch_id=batch.id, total=check.total, lines_per_task=per_task)
        except StateConflict:
            # It was cancelled, ran out of time or found another validator meanwhile; that settles it.
            self._blobs.delete(plan_blob)
            return False
        finally:
            # Nothing happens to a plan that was committed.
            plan.discard()
        return not errors

    def _in_dispatch_order(self, plan: bytes | bytearray, counts: list[int]) -> Iterator[bytes]:
        start = 0
        for count in counts:
            end = start + count * ENTRY_BYTES
            piece = plan[start:end]
            yield put_alike_together(piece, self._groups_at_once) if self._groups_at_once else bytes(piece)
            start = end

    def _run(self, check: "_Check", batch: Batch, token: str) -> list[LineError]:
        # The batch has its bytes from its creation on, whatever becomes of the file.
        if batch.input_blob is not None:
            with suppress(BlobMissing):
                check.run(read_lines(self._held(self._blobs.stream(batch.input_blob), batch.id, token)))
                return check.errors()
        return [input_missing(batch)]

    def _held(self, pieces: Iterable[bytes], batch_id: str, token: str) -> Iterator[bytes]:
        """Pass pieces on and renew the lease on the way; StateConflict where it is lost."""
        renew_at = self._clock.now() + _RENEW_AFTER_S
        for piece in pieces:
            yield piece
            if self._clock.now() >= renew_at:
                if not self._lease(batch_id, token):
                    raise StateConflict(f"Another process validates {batch_id} by now.")
                renew_at = self._clock.now() + _RENEW_AFTER_S

    def _lease(self, batch_id: str, token: str) -> bool:
        return self._batches.lease(batch_id, token, self._clock.now(), _LEASE_S)


class _ModelRoute(NamedTuple):
    """Where a model's lines go: the place in `_Check.upstreams`; and what the plan says of the model."""

    upstream: int
    model_hash: int


class _Check:
    """One pass over the lines: packs the entries of good ones, keeps the errors of the others."""

    def __init__(self, endpoint: str, route: Route) -> None:
        self.total = 0
        # At most 1.6 MB; of a file with a bad line, not all.
        self.plan = bytearray()
        self._endpoint = endpoint
        self._route = route
        # Where lines go, in the order in which the file first has lines for it.
        self.upstreams: list[str] = []
        self._seen: set[str | bytes] = set()
        # By model; None where nobody has it.
        self._models: dict[str | None, _ModelRoute | None] = {}
        self._first_model: str | None = None
        self._is_mixed = False
        self._inputs = 0
        self._line_errors: list[LineError] = []
        self._bad_lines = 0
        self._file_error: LineError | None = None

    @property
    def model(self) -> str | None:
        """The model that all lines share."""
        return None if self._is_mixed else self._first_model

    def errors(self) -> list[LineError]:
        """Return what is wrong with the file; one fault of the whole stands for all others."""
        if self._file_error is not None:
            return [self._file_error]
        if not self.total:
            return [LineError("empty_file", "The input file is empty: give one request or more, one a line.")]
        unsaid = self._bad_lines - len(self._line_errors)
        if not unsaid:
            return self._line_errors
        said = f"{unsaid:,} more {'line has' if unsaid == 1 else 'lines have'} errors that are not listed here."
        return [*self._line_errors, LineError("too_many_errors", said)]

    def run(self, lines: Iterable[SourceLine]) -> None:
        """Check the lines, up to the first that shows the file to be over a limit."""
        for number, offset, data in lines:
            self.total += 1
            if self.total > MAX_LINES:
                self._file_error = LineError("too_many_tasks", f"The file has more than {MAX_LINES:,} requests.")
                return
            try:
                if data is None:
                    raise too_long()
                checked = check_line(data, self._endpoint)
                route = self._add(checked)
            except LineInvalid as fault:
                self._bad_lines += 1
                if len(self._line_errors) < MAX_LINE_ERRORS:
                    self._line_errors.append(LineError(fault.code, fault.message, number, fault.param))
                continue
            if self._inputs > MAX_EMBEDDING_INPUTS:
                message = f"The file has more than {MAX_EMBEDDING_INPUTS:,} embedding inputs over all its requests."
                self._file_error = LineError("invalid_request", message, param="body.input")
                return
            # A plan with a bad line is thrown away.
            if not self._bad_lines:
                entry = PlanEntry(number, offset, len(data), route.upstream, checked.prefix_key, route.model_hash)
                self.plan += pack_entry(entry)

    def _add(self, checked: CheckedLine) -> "_ModelRoute":
        """Take in a line; return where it goes."""
        custom_id, model, inputs, _ = checked
        seen = custom_id if len(custom_id) <= _PLAIN_ID_CHARS else blake2b(custom_id.encode()).digest()
        if seen in self._seen:
            raise duplicate()
        self._seen.add(seen)
        route = self._route_of(model)
        if route is None:
            raise endpoint_not_found(self._endpoint) if model is None else model_not_found(model)
        if self.total == 1:
            self._first_model = model
        elif model != self._first_model:
            self._is_mixed = True
        self._inputs += inputs
        return route

    def _route_of(self, model: str | None) -> "_ModelRoute | None":
        if model in self._models:
            return self._models[model]
        if model is not None and (len(model) > _MAX_MODEL_CHARS or "\0" in model):
            # A NUL is in no name, and some databases store none.
            return None
        name = self._route(model, self._endpoint)
        route = None if name is None else _ModelRoute(self._place_of(name), model_hash(model))
        if len(self._models) < _MAX_KNOWN_MODELS:
            self._models[model] = route
        return route

    def _place_of(self, upstream: str) -> int:
        if upstream not in self.upstreams:
            self.upstreams.append(upstream)
        return self.upstreams.index(upstream)
