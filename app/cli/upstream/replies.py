"""HTTP answers of the stand-in as bytes."""

import itertools
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import NamedTuple

from app.cli.upstream.answers import error_body

_REASONS = {
    200: b"OK",
    307: b"Temporary Redirect",
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
    529: b"Overloaded",
}
# Statuses with a Retry-After by default.
_RETRY_LATER = frozenset({429, 503})
_LATER_S = 1
# HTTP dates have whole seconds: a date two seconds ahead is always more than a second away.
_DATE_AHEAD_S = 2
_numbers = itertools.count(1)
_OK_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_%016x\r\ncontent-length: %d\r\n\r\n%b"
)


class Reply(NamedTuple):
    """An answer, ready to be written."""

    status: int
    data: bytes


def ok(body: bytes) -> Reply:
    """Return a 200 with a JSON body."""
    return Reply(200, _OK_HEAD % (next(_numbers), len(body), body))


def with_status(status: int, body: bytes, *, content_type: bytes = b"application/json", extra: bytes = b"") -> Reply:
    """Return an answer with the given status, content type and extra header lines."""
    return Reply(status, head(status, b"content-length: %d" % len(body), content_type=content_type, extra=extra) + body)


def head(status: int, size: bytes, *, content_type: bytes = b"application/json", extra: bytes = b"") -> bytes:
    """Return the head of an answer; `size` is the header that frames the body."""
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\nx-request-id: req_%016x\r\n%b%b\r\n\r\n" % (
        status,
        _REASONS.get(status, b"Error"),
        content_type,
        next(_numbers),
        extra,
        size,
    )


def failed(status: int, later: str | None = None) -> Reply:
    """Return the answer for a fault with a status; `later` as in `Fault`."""
    if status == 429:
        body = error_body("Rate limit reached for this model.", "rate_limit_error", code="rate_limit_exceeded")
    elif status >= 500:
        body = error_body("The server had an error while processing the request.", "server_error")
    else:
        body = error_body(f"The request failed on purpose with {status}.", "invalid_request_error")
    return with_status(status, body, extra=_retry_after(status, later))


def refused() -> Reply:
    """Return the answer of a server without a free slot."""
    body = error_body("All slots are taken; try again later.", "rate_limit_error", code="rate_limit_exceeded")
    return with_status(429, body, extra=_retry_after(429, None))


def _html_page(_: bytes) -> Reply:
    # A page from a proxy in between.
    page = b"<!DOCTYPE html><html><body><h1>Welcome</h1><p>This is no JSON.</p></body></html>"
    return with_status(200, page, content_type=b"text/html; charset=utf-8")


def _redirect(_: bytes) -> Reply:
    return with_status(307, b"", extra=b"location: /elsewhere\r\n")


# Complete but useless answers, by kind of fault; a function makes the answer from the correct body.
SENSELESS: dict[str, Callable[[bytes], Reply]] = {
    "html": _html_page,
    "null": lambda _: ok(b"null"),
    "half": lambda body: ok(body[: len(body) // 2]),
    "redirect": _redirect,
}


def _retry_after(status: int, later: str | None) -> bytes:
    if later is None and status in _RETRY_LATER:
        later = str(_LATER_S)
    elif later == "date":
        later = formatdate(time.time() + _DATE_AHEAD_S, usegmt=True)
    return b"retry-after: %b\r\n" % later.encode() if later and later != "none" else b""
