"""Answers to invalid HTTP, which never reaches the application, in OpenAI's envelope for errors."""

import json
from http import HTTPStatus

from gunicorn.http.errors import (  # type: ignore[import-untyped]
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)

from app.domain.ids import new_request_id

_STATUS: dict[type[Exception], HTTPStatus] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
_MESSAGES = {
    HTTPStatus.BAD_REQUEST: "This is no valid HTTP request.",
    HTTPStatus.REQUEST_TIMEOUT: "The head of this request came too slowly: send it again.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The URL of this request is too long.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers of this request are too long.",
    HTTPStatus.EXPECTATION_FAILED: "The header Expect of this request is not 100-continue.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The server had an error while processing your request. Sorry about that!",
}
_CODES = {HTTPStatus.REQUEST_TIMEOUT: "request_timeout", HTTPStatus.INTERNAL_SERVER_ERROR: None}


def status_of(fault: Exception) -> HTTPStatus:
    """Return the status for an error of gunicorn's parser or of our code."""
    if not isinstance(fault, ParseException):
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return _STATUS.get(type(fault), HTTPStatus.BAD_REQUEST)


def refusal(status: HTTPStatus) -> bytes:
    """Return the whole answer, the last on its connection."""
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    error = {"message": _MESSAGES[status], "type": kind, "param": None, "code": _CODES.get(status, "invalid_http")}
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"X-Content-Type-Options: nosniff\r\nX-Request-Id: {new_request_id()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
