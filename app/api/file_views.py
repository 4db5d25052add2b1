"""/v1/files."""

import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from flask import Response, request
from werkzeug.http import parse_range_header

from app.api import request_body
from app.api.context import content_lines, services, tenant_id
from app.api.routes import IDEMPOTENCY_KEY, Routes, Takes
from app.api.schemas import (
    ContentQuerySchema,
    FileDeletedSchema,
    FileListSchema,
    FileSchema,
    FilesQuerySchema,
    UploadFormSchema,
)
from app.api.upload_form import UploadForm, read_upload
from app.domain.errors import InvalidRequest
from app.domain.file import PURPOSE_BATCH, PURPOSE_BATCH_OUTPUT, UPLOAD_PURPOSES, File
from app.services.files import Content, FilePage, Upload

routes = Routes("files", "Input that callers upload, and what batches write.")

_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "additionalProperties": False,
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "With purpose `batch`: JSONL."},
                    "purpose": {"type": "string", "enum": list(UPLOAD_PURPOSES)},
                    "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                    "expires_after[seconds]": {"type": "integer", "minimum": 3_600, "maximum": 2_592_000},
                },
                "dependentRequired": {
                    "expires_after[anchor]": ["expires_after[seconds]"],
                    "expires_after[seconds]": ["expires_after[anchor]"],
                },
            }
        }
    },
}
_RANGE = {
    "in": "header",
    "name": "Range",
    "schema": {"type": "string", "pattern": r"^bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})$"},
    "description": "`bytes=first-last`: answered with 206 and these bytes. Of several at once: with the whole file.",
}
# The purposes of JSONL files; files with other purposes may hold any bytes.
_OF_LINES = frozenset({PURPOSE_BATCH, PURPOSE_BATCH_OUTPUT})
_BYTES = {"type": "string", "format": "binary"}


@routes.add(
    "POST",
    "/v1/files",
    answer=FileSchema,
    takes=Takes(described_body=_FORM, headers=[IDEMPOTENCY_KEY]),
    refuses=[400, 409, 413, 503, 507],
)
def upload_file() -> File:
    """Upload a file."""
    key = request.headers.get("Idempotency-Key")
    form = read_upload(request, lambda: services().files.begin(is_hashed=key is not None))
    upload, values = _checked(form)
    return services().files.create(
        tenant_id(),
        upload,
        purpose=values["purpose"],
        filename=form.filename,
        lifetime_s=(values["expires_after"] or {}).get("seconds"),
        idempotency_key=key,
    )


@routes.add("GET", "/v1/files", answer=FileListSchema, takes=Takes(query=FilesQuerySchema), refuses=[400, 404])
def list_files(query: dict[str, Any]) -> Response:
    """List files, the newest first unless asked otherwise."""
    page = services().files.page(
        tenant_id(),
        purpose=query["purpose"],
        after=query["after"] or None,
        limit=query["limit"],
        newest_first=query["order"] == "desc",
    )
    return Response(_page_as_json(page), mimetype="application/json")


@routes.add("GET", "/v1/files/<file_id>", answer=FileSchema, refuses=[404])
def get_file(file_id: str) -> File:
    """Retrieve what is known of a file."""
    return services().files.get(tenant_id(), file_id)


@routes.add("DELETE", "/v1/files/<file_id>", answer=FileDeletedSchema, refuses=[404])
def delete_file(file_id: str) -> dict[str, str]:
    """Delete a file; a batch that reads it already still can."""
    services().files.delete(tenant_id(), file_id)
    return {"id": file_id}


@routes.add(
    "GET",
    "/v1/files/<file_id>/content",
    answer=_BYTES,
    content_type="application/octet-stream",
    also={206: "The bytes of the range.", 304: "They are still those of the tag in If-None-Match."},
    takes=Takes(headers=[_RANGE], query=ContentQuerySchema),
    refuses=[400, 404, 416],
)
def get_file_content(query: dict[str, Any], file_id: str) -> Response:
    """Retrieve a file's bytes: whole, a range of them, or what follows its first lines."""
    content = services().files.content(tenant_id(), file_id)
    skipped = _skipped_lines(query)
    body = _SeekableContent(content)
    response = Response(body, mimetype="application/octet-stream", direct_passthrough=True)
    response.headers.set("Content-Disposition", "attachment", **_names(content.file.filename))
    # Clients that resume a download need X-Incomplete and X-Last-Line. A readable file is always whole.
    response.headers["X-Incomplete"] = "false"
    if content.file.purpose in _OF_LINES and "Range" not in request.headers:
        response.headers["X-Last-Line"] = str(content_lines().total(content))
    if skipped:
        body.seek(content_lines().start_of(content, skipped))
        response.content_length = content.size - body.tell()
        return response
    response.content_length = content.size
    response.last_modified = datetime.fromtimestamp(int(content.file.created_at), UTC)
    response.set_etag(content.file.id)
    environ = dict(request.environ)
    if _means_the_whole(environ.get("HTTP_RANGE", ""), content.size):
        environ.pop("HTTP_RANGE", None)
    response.make_conditional(environ, accept_ranges=True, complete_length=content.size)
    return response


def _page_as_json(page: FilePage) -> bytes:
    """Return a page in the shape of `FileListSchema`; the schema takes over ten times as long for 10,000 files."""
    files = [
        {
            "id": file.id,
            "object": "file",
            "bytes": file.bytes,
            "created_at": int(file.created_at),
            "expires_at": None if file.expires_at is None else int(file.expires_at),
            "filename": file.filename,
            "purpose": file.purpose,
            "status": "processed",
            "status_details": None,
        }
        for file in page.items
    ]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": files,
            "first_id": page.items[0].id if page.items else None,
            "last_id": page.items[-1].id if page.items else None,
            "has_more": page.has_more,
        }
    )


def _skipped_lines(query: Mapping[str, int | None]) -> int:
    given = [name for name in ("offset", "skip") if query[name] is not None]
    if len(given) == 2 and query["offset"] != query["skip"]:
        raise InvalidRequest(
            "'offset' and 'skip' both are numbers of lines to leave out: send one of them.",
            param="skip",
            code="invalid_value",
        )
    return (query[given[0]] or 0) if given else 0


def _names(filename: str) -> dict[str, str]:
    """Return a filename for a header: in ASCII, and if ASCII loses characters, also in the form of RFC 6266."""
    if filename.isascii():
        return {"filename": filename}
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    return {"filename": plain, "filename*": f"UTF-8''{quote(filename, safe='')}"}


def _means_the_whole(asked: str, size: int) -> bool:
    """Return whether the answer to a Range is the whole file."""
    # Several ranges may get the whole file, and no client needs more; units besides bytes are ignored (RFC 9110 14.2).
    if "," in asked or asked.partition("=")[0].strip().lower() != "bytes":
        return True
    parsed = parse_range_header(asked)
    # The last n bytes of a shorter file are the whole file; Werkzeug would refuse the range.
    return parsed is not None and -parsed.ranges[0][0] > size


class _SeekableContent(Iterator[bytes]):
    """A file's bytes for Werkzeug, which seeks before reading a range."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._offset = 0
        self._pieces: Iterator[bytes] | None = None

    def __next__(self) -> bytes:
        if self._pieces is None:
            self._pieces = self._content.stream(self._offset)
        return next(self._pieces)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int) -> None:
        self._offset = offset

    def tell(self) -> int:
        return self._offset


def _checked(form: UploadForm) -> tuple[Upload, dict[str, Any]]:
    """Return the upload and the checked fields; an invalid field discards the upload."""
    try:
        values = request_body.load(UploadFormSchema(), form.nested())
    except InvalidRequest:
        if form.upload is not None:
            form.upload.discard()
        raise
    if form.upload is None:
        raise InvalidRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    return form.upload, values
