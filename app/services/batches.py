"""Batches as callers see them: create, look up, cancel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from app.domain import ids
from app.domain.batch import Batch
from app.domain.errors import Conflict, InvalidRequest, NotFound, StateConflict, Unavailable
from app.domain.file import PURPOSE_BATCH, File
from app.domain.lifecycle import CANCEL_ACKNOWLEDGED, Event, Status
from app.domain.limits import MAX_METADATA_KEY_CHARS, MAX_METADATA_PAIRS, MAX_METADATA_VALUE_CHARS
from app.domain.window import window_s
from app.services.files import no_such_file
from app.services.idempotency import Idempotency, claim_of
from app.services.ports import BatchStore, Claim, Clock, FileStore, IdempotencyStore, Queue

log = structlog.get_logger()

# Any other text is no id, and does not reach the database, which can't even store a NUL.
_BATCH_ID = re.compile(r"batch_[A-Za-z0-9_-]{1,64}")
_FILE_ID = re.compile(r"file-[A-Za-z0-9_-]{1,64}")
# PostgreSQL stores no NUL, and UTF-8 knows no half of a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MAX_SHOWN_CHARS = 100


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A caller's request; `metadata` is unchecked, as the caller sent it."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Mapping[str, object] | None = None
    output_lifetime_s: int | None = None
    # The key by which the caller is known.
    api_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class BatchPage:
    """A page of batches, newest first, and whether more batches follow."""

    items: list[Batch]
    has_more: bool


class BatchService:
    """The batches of tenants. Another tenant's batch counts as absent."""

    def __init__(
        self,
        batches: BatchStore,
        files: FileStore,
        queue: Queue,
        clock: Clock,
        idempotency: IdempotencyStore,
        *,
        endpoints: Sequence[str],
        windows: Sequence[str],
    ) -> None:
        self._batches = batches
        self._files = files
        self._queue = queue
        self._clock = clock
        self._idempotency = Idempotency(idempotency)
        self._endpoints = endpoints
        self._windows = windows

    def create(self, tenant_id: str, request: BatchRequest, *, idempotency_key: str | None = None) -> Batch:
        """Store a new batch and have its file validated.

        Raises:
            InvalidRequest: a value is not supported.
            NotFound: the tenant has no such input file.
            Conflict: the Idempotency-Key was used for another request.
        """
        request = replace(request, endpoint=_with_version(request.endpoint))
        _check_choice("endpoint", request.endpoint, self._endpoints)
        _check_choice("completion_window", request.completion_window, self._windows)
        metadata = _checked_metadata(request.metadata)
        claim = claim_of(
            idempotency_key,
            "batch",
            input_file_id=request.input_file_id,
            endpoint=request.endpoint,
            completion_window=request.completion_window,
            metadata=metadata,
            output_lifetime_s=request.output_lifetime_s,
        )
        return self._idempotency.once(
            tenant_id,
            claim,
            find=partial(self._batches.get, tenant_id),
            make=partial(self._add, tenant_id, request, metadata),
        )

    def get(self, tenant_id: str, batch_id: str) -> Batch:
        batch = self._batches.get(tenant_id, batch_id) if _BATCH_ID.fullmatch(batch_id) else None
        if batch is None:
            raise _no_such_batch(batch_id)
        return batch

    def page(self, tenant_id: str, *, after: str | None, limit: int) -> BatchPage:
        """Return up to `limit` batches after the batch `after`; raise NotFound if there is no batch `after`."""
        if after is not None and not _BATCH_ID.fullmatch(after):
            raise _no_such_batch(after, param="after")
        # A batch more than asked for tells whether more batches follow.
        found = self._batches.page(tenant_id, after=after, limit=limit + 1)
        return BatchPage(found[:limit], len(found) > limit)

    def cancel(self, tenant_id: str, batch_id: str) -> Batch:
        """Send no more of the batch and end it with the results so far; raise Conflict if a cancel is too late."""
        self.get(tenant_id, batch_id)
        try:
            batch = self._batches.advance(batch_id, Event.CANCEL_REQUESTED, self._clock.now())
        except StateConflict:
            return self._answer_late_cancel(tenant_id, batch_id)
        log.info("batch.advanced", batch_id=batch_id, status=batch.status)
        try:
            self._queue.close(batch_id)
        except Unavailable as fault:
            log.warning("batch.close_unsent", batch_id=batch_id, error=str(fault), next="upkeep closes it")
        return batch

    def _add(
        self, tenant_id: str, request: BatchRequest, metadata: dict[str, str] | None, claim: Claim | None
    ) -> Batch:
        batch = self._new(tenant_id, ids.new_batch_id(), request, metadata)
        self._batches.add(batch, input_at=batch.created_at, claim=claim)
        log.info("batch.created", batch_id=batch.id, tenant_id=tenant_id, input_file_id=batch.input_file_id)
        self._have_validated(batch.id)
        return batch

    def _new(self, tenant_id: str, batch_id: str, request: BatchRequest, metadata: dict[str, str] | None) -> Batch:
        file = self._input_file(tenant_id, request.input_file_id)
        now = self._clock.now()
        return Batch(
            id=batch_id,
            tenant_id=tenant_id,
            endpoint=request.endpoint,
            input_file_id=file.id,
            completion_window=request.completion_window,
            status=Status.VALIDATING,
            created_at=now,
            expires_at=now + window_s(request.completion_window),
            api_key_id=request.api_key_id,
            metadata=metadata,
            output_lifetime_s=request.output_lifetime_s,
            input_blob=file.blob,
        )

    def _input_file(self, tenant_id: str, file_id: str) -> File:
        file = self._files.get(tenant_id, file_id, self._clock.now()) if _FILE_ID.fullmatch(file_id) else None
        if file is None:
            raise no_such_file(file_id, param="input_file_id")
        if file.purpose != PURPOSE_BATCH:
            raise InvalidRequest(
                f"The file {file.id} has the purpose '{file.purpose}': upload it with the purpose 'batch'.",
                param="input_file_id",
                code="invalid_value",
            )
        return file

    def _have_validated(self, batch_id: str) -> None:
        try:
            self._queue.validate(batch_id)
        except Unavailable as fault:
            # The batch is stored, so the request succeeds: an error now would make the caller send the request again.
            log.warning("batch.validate_unsent", batch_id=batch_id, error=str(fault), next="upkeep sends it")

    def _answer_late_cancel(self, tenant_id: str, batch_id: str) -> Batch:
        batch = self.get(tenant_id, batch_id)
        if batch.status in CANCEL_ACKNOWLEDGED:
            return batch
        if batch.status is Status.EXPIRING:
            raise Conflict("Cannot cancel a batch whose completion window has elapsed: it is being finalized.")
        raise Conflict(f"Cannot cancel a batch with status '{batch.status}'.")


def _no_such_batch(batch_id: str, *, param: str = "id") -> NotFound:
    return NotFound(f"No batch found with id '{batch_id[:_MAX_SHOWN_CHARS]}'.", param=param)


def _with_version(endpoint: str) -> str:
    """Return `/v1/chat/completions` for `/chat/completions`, Azure's classic form of the endpoint."""
    return f"/v1{endpoint}" if endpoint.startswith("/") and not endpoint.startswith("/v1/") else endpoint


def _check_choice(param: str, value: str, supported: Sequence[str]) -> None:
    if value not in supported:
        values = ", ".join(f"'{known}'" for known in supported)
        raise InvalidRequest(
            f"Invalid value: '{value[:_MAX_SHOWN_CHARS]}'. Supported values of {param} are: {values}.",
            param=param,
            code="invalid_value",
        )


def _checked_metadata(metadata: Mapping[str, object] | None) -> dict[str, str] | None:
    if metadata is None:
        return None
    if len(metadata) > MAX_METADATA_PAIRS:
        raise _invalid_metadata("metadata", f"it has {len(metadata)} pairs, and may have {MAX_METADATA_PAIRS}")
    return {key: _checked_pair(key, value) for key, value in metadata.items()}


def _checked_pair(key: str, value: object) -> str:
    if len(key) > MAX_METADATA_KEY_CHARS or _UNSTORABLE.search(key):
        raise _invalid_metadata("metadata", f"a key has at most {MAX_METADATA_KEY_CHARS} characters, none of them NUL")
    param = f"metadata.{key}"
    if not isinstance(value, str):
        raise InvalidRequest(f"Invalid type for '{param}': expected a string.", param=param, code="invalid_type")
    if len(value) > MAX_METADATA_VALUE_CHARS:
        raise _invalid_metadata(param, f"it has {len(value)} characters, and may have {MAX_METADATA_VALUE_CHARS}")
    if _UNSTORABLE.search(value):
        raise _invalid_metadata(param, "it has a NUL or half of a surrogate pair, which can't be stored")
    return value


def _invalid_metadata(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{param}': {reason}.", param=param, code="invalid_value")
