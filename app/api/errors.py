"""Every error as OpenAI's envelope: `{"error": {"message", "type", "param", "code"}}`, always with the four keys."""

from collections.abc import Mapping

import structlog
from flask import Flask, Response, jsonify, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from app.api.context import request_id
from app.api.pace import BodyTooSlow
from app.domain.errors import (
    BlobMissing,
    Conflict,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    Refused,
    StateConflict,
    StorageFull,
    TooLarge,
    Unavailable,
)
from app.domain.limits import MIB

log = structlog.get_logger()

_STATUS: Mapping[type[Refused], int] = {
    InvalidRequest: 400,
    NotAuthorized: 401,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
}
# An unchanged request would be refused again, but OpenAI's clients retry a 409 unless the header forbids retries.
_NO_RETRY = {"x-should-retry": "false"}
_RETRY_AFTER_S = "2"
# The start of the next request on the connection is unknown.
_CLOSE = {"Connection": "close"}
_UNAVAILABLE = "Something this needs does not answer right now: try again in a moment."


def answer(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error in the envelope."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    response = jsonify({"error": {"message": message, "type": kind, "param": param, "code": code}})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def register_errors(app: Flask) -> None:
    """Answer every error of a view or of Flask in the envelope."""
    app.register_error_handler(Refused, _refused)
    app.register_error_handler(StateConflict, _state_conflict)
    app.register_error_handler(StorageFull, _storage_full)
    app.register_error_handler(BlobMissing, _blob_missing)
    app.register_error_handler(Unavailable, _unavailable)
    app.register_error_handler(ParseException, _no_http)
    app.register_error_handler(BodyTooSlow, _too_slow)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _refused(fault: Refused) -> Response:
    headers = {}
    if isinstance(fault, NotAuthorized):
        headers = {"WWW-Authenticate": 'Bearer realm="wylon"'}
    if isinstance(fault, Conflict):
        headers = _NO_RETRY
    return answer(_STATUS[type(fault)], fault.message, param=fault.param, code=fault.code, headers=headers)


def _state_conflict(fault: StateConflict) -> Response:
    return answer(409, str(fault))


def _blob_missing(fault: BlobMissing) -> Response:
    # The right storage lacks the bytes: no retry brings the bytes back.
    log.error("blob.missing", error=str(fault))
    message = "The bytes of this file are missing in the storage: upload it again, or have the operator restore them."
    return answer(404, message, code="content_missing")


def _storage_full(fault: StorageFull) -> Response:
    log.error("storage.full", error=str(fault))
    return answer(507, str(fault), code="storage_full", headers=_NO_RETRY)


def _unavailable(fault: Unavailable) -> Response:
    log.warning("request.unavailable", error=str(fault))
    # Only the log names the part that does not answer, and the part's address.
    return answer(503, _UNAVAILABLE, code="unavailable", headers={"Retry-After": _RETRY_AFTER_S})


def _no_http(_fault: ParseException) -> Response:
    # Only for a malformed body: a malformed head never reaches the application.
    return answer(400, "The body of this request is no valid HTTP.", code="invalid_body", headers=_CLOSE)


def _too_slow(_fault: BodyTooSlow) -> Response:
    message = "The body of this request came too slowly: send it again over a faster line, or split the file."
    return answer(408, message, code="request_timeout", headers=_CLOSE)


def _http(fault: HTTPException) -> Response:
    """Answer an error of Flask or Werkzeug, with the error's headers, for example Allow or Content-Range."""
    status = fault.code or 500
    own = {name: value for name, value in fault.get_headers() if name.lower() not in {"content-type", "content-length"}}
    if status == 404:
        return answer(404, f"Invalid URL ({request.method} {request.path})", code="unknown_url", headers=own)
    if status == 405:
        message = f"Not allowed to {request.method} on {request.path}."
        return answer(405, message, code="method_not_allowed", headers=own)
    if isinstance(fault, RequestEntityTooLarge):
        limit = (request.max_content_length or 0) // MIB
        return answer(413, f"The body of this request is larger than {limit} MiB.", code="request_too_large")
    return answer(status, fault.description or fault.name, headers=own)


def _unexpected(fault: Exception) -> Response:
    # Hide internals from the caller; the log has the trace beside the request's id.
    log.error("request.failed", method=request.method, path=request.path, request_id=request_id(), exc_info=fault)
    return answer(500, "The server had an error while processing your request. Sorry about that!")
