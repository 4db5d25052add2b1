"""Web pages of other origins as callers, where the operator allows their origins."""

import re
from collections.abc import Sequence

from flask import Flask, Response, request

_METHODS = "GET, POST, DELETE, OPTIONS"
# Callers' libraries send headers of their own, such as x-stainless-lang: a preflight gets those that it asks for.
_HEADERS = re.compile(r"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)*")
_MAX_HEADERS_CHARS = 4_096
_EXPOSED = "Content-Disposition, Retry-After, X-Incomplete, X-Last-Line, X-Request-Id, X-Should-Retry"
# Chromium keeps the answer to a preflight no longer.
_KEPT_S = "7200"


def add_cors(app: Flask, origins: Sequence[str]) -> None:
    """Answer preflights of these origins, which carry no key, and let pages of them read all answers.

    Args:
        app: the app; this has to come before what asks for a key.
        origins: such as `https://example.com`; `*` is every origin. None: nothing changes.
    """
    if not origins:
        return

    def is_allowed() -> bool:
        return "*" in origins or request.headers.get("Origin") in origins

    def answer_preflight() -> Response | None:
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not (is_preflight and is_allowed()):
            return None
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        asked = request.headers.get("Access-Control-Request-Headers", "")
        if len(asked) <= _MAX_HEADERS_CHARS and _HEADERS.fullmatch(asked):
            response.headers["Access-Control-Allow-Headers"] = asked
        response.headers["Access-Control-Max-Age"] = _KEPT_S
        return response

    def allow(response: Response) -> Response:
        # A cache must not give the answer for one origin to another.
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is not None and is_allowed():
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    app.before_request(answer_preflight)
    app.after_request(allow)
