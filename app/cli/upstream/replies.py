"""HTTP answers of the stand-in as bytes."""

import itertools
from typing import NamedTuple

from app.cli.upstream.answers import error_body

_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
# With these a server says when to come back.
_RETRY_LATER = frozenset({429, 503})
_numbers = itertools.count(1)
_OK_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_%016x\r\ncontent-length: %d\r\n\r\n%b"
)


class Reply(NamedTuple):
    """One answer, ready to be written."""

    status: int
    data: bytes


def ok(body: bytes) -> Reply:
    """Return a 200 with a JSON body."""
    return Reply(200, _OK_HEAD % (next(_numbers), len(body), body))


def with_status(
    status: int, body: bytes, *, content_type: bytes = b"application/json", retry_after_s: int = 0
) -> Reply:
    """Return an answer with any status, type and Retry-After."""
    return Reply(status, head(status, len(body), content_type=content_type, retry_after_s=retry_after_s) + body)


def head(status: int, length: int, *, content_type: bytes = b"application/json", retry_after_s: int = 0) -> bytes:
    """Return the head of an answer whose body has `length` bytes."""
    later = b"retry-after: %d\r\n" % retry_after_s if retry_after_s else b""
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\nx-request-id: req_%016x\r\n%bcontent-length: %d\r\n\r\n" % (
        status,
        _REASONS.get(status, b"Error"),
        content_type,
        next(_numbers),
        later,
        length,
    )


def failed(status: int) -> Reply:
    """Return the answer of a fault that is a status."""
    if status == 429:
        body = error_body("Rate limit reached for this model.", "rate_limit_error", code="rate_limit_exceeded")
    elif status >= 500:
        body = error_body("The server had an error while processing the request.", "server_error")
    else:
        body = error_body(f"The request failed on purpose with {status}.", "invalid_request_error")
    return with_status(status, body, retry_after_s=1 if status in _RETRY_LATER else 0)


def refused(retry_after_s: int = 1) -> Reply:
    """Return the answer of a server that has no room left."""
    body = error_body("All slots are taken; try again later.", "rate_limit_error", code="rate_limit_exceeded")
    return with_status(429, body, retry_after_s=retry_after_s)


def html_page() -> Reply:
    """Return a 200 as a proxy in between would give it."""
    page = b"<!DOCTYPE html><html><body><h1>Welcome</h1><p>This is no JSON.</p></body></html>"
    return with_status(200, page, content_type=b"text/html; charset=utf-8")
