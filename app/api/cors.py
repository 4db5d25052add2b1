"""CORS: web pages as callers, from the origins that the operator allows."""

import re
from collections.abc import Sequence

from flask import Flask, Response, request

_METHODS = "GET, POST, DELETE, OPTIONS"
# Client libraries send extra headers, for example x-stainless-lang: a preflight gets the headers it asks for.
_HEADERS = re.compile(r"[A-Za-z0-9-]+(\s*,\s*[A-Za-z0-9-]+)*")
_MAX_HEADERS_CHARS = 4_096
_EXPOSED = "Content-Disposition, Retry-After, X-Incomplete, X-Last-Line, X-Request-Id, X-Should-Retry"
# The longest time for which Chromium keeps the answer to a preflight.
_KEPT_S = "7200"


def add_cors(app: Flask, origins: Sequence[str]) -> None:
    """Answer preflights from the origins, and let their pages read every answer.

    Args:
        app: call `add_cors` before registering the check of keys, since preflights carry no key.
        origins: for example `https://example.com`; `*` is every origin. Without origins the app stays unchanged.
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
        # A cache must not give the answer for one origin to another origin.
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is not None and is_allowed():
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    app.before_request(answer_preflight)
    app.after_request(allow)
