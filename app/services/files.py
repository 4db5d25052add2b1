"""Files: upload, look up, read, delete."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import structlog

from app.domain import ids
from app.domain.errors import BlobMissing, InvalidRequest, NotFound, NotWritten, TooLarge, Unavailable
from app.domain.file import PURPOSE_BATCH, UPLOAD_PURPOSES, File
from app.domain.limits import MAX_BATCH_FILE_BYTES, MAX_FILE_BYTES, MAX_FILE_LIFETIME_S, MAX_FILENAME_CHARS, MIB
from app.services.idempotency import Idempotency, claim_of
from app.services.ports import Blobs, BlobWriter, Claim, Clock, FileStore, IdempotencyStore

log = structlog.get_logger()

# The name that Python's client gives to bytes without a name.
UNNAMED = "upload"
_MAX_SHOWN_CHARS = 100
# Each slow reader has a piece in memory, and thousands of callers may read.
_CONTENT_PIECE_BYTES = 64 * 1024
# Any other text is no id of a file, and does not reach the database, which can't even store a NUL.
_FILE_ID = re.compile(r"file-[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class FilePage:
    """A page of files, and whether more files follow."""

    items: list[File]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file, readable from any offset on."""

    file: File
    size: int
    blobs: Blobs

    def stream(self, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `offset` to the end, in pieces."""
        return self.blobs.stream(self.file.blob, offset, piece_bytes=_CONTENT_PIECE_BYTES)


class Upload:
    """A file's bytes during the upload; FileService.create takes the upload, or the owner must discard the upload."""

    def __init__(self, file_id: str, blob: str, writer: BlobWriter, *, is_hashed: bool) -> None:
        self.file_id = file_id
        self.blob = blob
        self.size = 0
        self._writer = writer
        self._max_bytes = MAX_FILE_BYTES
        self._digest = hashlib.sha256() if is_hashed else None

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes so far, in hex; empty without `is_hashed`."""
        return self._digest.hexdigest() if self._digest else ""

    def bound_by(self, purpose: str) -> None:
        """Apply the limit of this purpose; raise TooLarge if the upload is over the limit already."""
        check_purpose(purpose)
        self._max_bytes = MAX_BATCH_FILE_BYTES if purpose == PURPOSE_BATCH else MAX_FILE_BYTES
        self._check_size(self.size)

    def write(self, data: bytes) -> None:
        """Append bytes; raise TooLarge past the limit, StorageFull if there is no room."""
        self._check_size(self.size + len(data))
        self._writer.write(data)
        self.size += len(data)
        if self._digest:
            self._digest.update(data)

    def commit(self) -> None:
        self._writer.commit()

    def discard(self) -> None:
        """Leave nothing behind; after a commit, do nothing."""
        self._writer.discard()

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(
                f"The file is larger than {self._max_bytes // MIB} MiB, the most that a file of this purpose may have:"
                " split it.",
                param="file",
                code="file_too_large",
            )


class FileService:
    """The files of tenants. Another tenant's file counts as absent."""

    def __init__(self, files: FileStore, blobs: Blobs, clock: Clock, idempotency: IdempotencyStore) -> None:
        self._files = files
        self._blobs = blobs
        self._clock = clock
        self._idempotency = Idempotency(idempotency)

    def begin(self, *, is_hashed: bool = False) -> Upload:
        """Open a new upload.

        Args:
            is_hashed: whether `create` will get an Idempotency-Key, which needs a hash of the content.
        """
        file_id = ids.new_file_id()
        blob = f"files/{file_id}"
        return Upload(file_id, blob, self._blobs.create(blob), is_hashed=is_hashed)

    def create(
        self,
        tenant_id: str,
        upload: Upload,
        *,
        purpose: str,
        filename: str = "",
        lifetime_s: int | None = None,
        idempotency_key: str | None = None,
    ) -> File:
        """Make a file of a complete upload; after a failure, the upload is discarded.

        Raises:
            InvalidRequest: no such purpose.
            TooLarge: over the limit of the purpose.
            StorageFull: no room to make the bytes durable.
            Conflict: the Idempotency-Key was used for another request.
        """
        name = label(filename)
        try:
            upload.bound_by(purpose)
            claim = claim_of(
                idempotency_key,
                "file",
                purpose=purpose,
                filename=name,
                lifetime_s=lifetime_s,
                size=upload.size,
                sha256=upload.digest,
            )
            return self._idempotency.once(
                tenant_id,
                claim,
                find=partial(self._find, tenant_id),
                make=partial(self._add, tenant_id, upload, purpose, name, lifetime_s),
            )
        finally:
            upload.discard()

    def get(self, tenant_id: str, file_id: str) -> File:
        file = self._find(tenant_id, file_id)
        if file is None:
            raise no_such_file(file_id)
        return file

    def page(
        self, tenant_id: str, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> FilePage:
        """Return up to `limit` files after the file `after`; raise NotFound if there is no file `after`."""
        if after is not None and not _FILE_ID.fullmatch(after):
            raise no_such_file(after, param="after")
        found = self._files.page(
            tenant_id,
            self._clock.now(),
            purpose=purpose,
            after=after,
            # A file more than asked for tells whether more files follow.
            limit=limit + 1,
            newest_first=newest_first,
        )
        return FilePage(found[:limit], len(found) > limit)

    def delete(self, tenant_id: str, file_id: str) -> None:
        """Hide the file at once; the bytes go when nobody reads them any more."""
        if not (_FILE_ID.fullmatch(file_id) and self._files.mark_deleted(tenant_id, file_id, self._clock.now())):
            raise no_such_file(file_id)
        log.info("file.deleted", file_id=file_id, tenant_id=tenant_id)

    def content(self, tenant_id: str, file_id: str) -> Content:
        """Return the file's bytes; raise BlobMissing if they are gone."""
        file = self.get(tenant_id, file_id)
        size = self._blobs.size(file.blob)
        if size != file.bytes:
            raise BlobMissing(f"Of the {file.bytes} bytes of {file.blob} the storage has {size}.")
        return Content(file, size, self._blobs)

    def _find(self, tenant_id: str, file_id: str) -> File | None:
        if not _FILE_ID.fullmatch(file_id):
            return None
        return self._files.get(tenant_id, file_id, self._clock.now())

    def _add(
        self,
        tenant_id: str,
        upload: Upload,
        purpose: str,
        filename: str,
        lifetime_s: int | None,
        claim: Claim | None,
    ) -> File:
        now = self._clock.now()
        if lifetime_s is None and purpose == PURPOSE_BATCH:
            lifetime_s = MAX_FILE_LIFETIME_S
        file = File(
            id=upload.file_id,
            tenant_id=tenant_id,
            purpose=purpose,
            filename=filename,
            bytes=upload.size,
            blob=upload.blob,
            created_at=now,
            expires_at=None if lifetime_s is None else now + lifetime_s,
        )
        upload.commit()
        try:
            self._files.add(file, claim)
        except Unavailable as fault:
            # Unless the write was undone the row may exist: the bytes stay for upkeep to judge.
            if isinstance(fault, NotWritten):
                self._take_back(upload)
            raise
        except Exception:
            # The error may be KeyTaken: then the answer is the file of the first request.
            self._take_back(upload)
            raise
        log.info("file.created", file_id=file.id, tenant_id=tenant_id, purpose=purpose, bytes=file.bytes)
        return file

    def _take_back(self, upload: Upload) -> None:
        """Delete the bytes of a file that was refused after its bytes were stored."""
        try:
            self._blobs.delete(upload.blob)
        except Unavailable as fault:
            log.warning("blob.left", blob=upload.blob, error=str(fault), next="upkeep deletes it")


def no_such_file(file_id: str, *, param: str = "id") -> NotFound:
    """Return the error for a file that this tenant does not have."""
    return NotFound(f"No such File object: {file_id[:_MAX_SHOWN_CHARS]}", param=param)


def check_purpose(purpose: str) -> None:
    """Raise InvalidRequest if `purpose` is no purpose of an upload."""
    if purpose not in UPLOAD_PURPOSES:
        supported = ", ".join(f"'{known}'" for known in UPLOAD_PURPOSES)
        raise InvalidRequest(
            f"Invalid value: '{purpose[:_MAX_SHOWN_CHARS]}'. Supported values are: {supported}.",
            param="purpose",
            code="invalid_value",
        )


def label(filename: str) -> str:
    """Return a filename for display: without folders and unprintable characters, at most 255 characters."""
    name = re.split(r"[/\\]", filename)[-1]
    printable = "".join(char for char in name if unicodedata.category(char)[0] != "C").strip()
    return printable[:MAX_FILENAME_CHARS] or UNNAMED
