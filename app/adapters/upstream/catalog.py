"""Asks a model server for its models, with the HTTP client of the calls."""

import asyncio
import threading
import time
from typing import Any, Unpack

import msgspec

from app.adapters.upstream.calling import Calling
from app.adapters.upstream.client import HttpUpstream
from app.adapters.upstream.json_text import without_surrogates
from app.domain.errors import Unavailable
from app.domain.limits import MIB

# A live server takes the connection at once. After a dead server, the list may hold further servers.
_CONNECT_TIMEOUT_S = 2.0
# Bounds the whole request, however slowly the answer drips.
_TIMEOUT_S = 5.0
# Thousands of models with full descriptions from providers.
_MAX_BYTES = 4 * MIB
# Every `GET /v1/models` asks. Models change far less often, and a server that just failed to answer is not waited for
# again.
_KEPT_S = 5.0

Models = list[dict[str, object]]


class HttpCatalog:
    """The `/models` of a server; safe to use from several threads without an event loop.

    Args:
        base_url: as for `HttpUpstream`, such as `http://127.0.0.1:8000/v1`.
        calling: as for `HttpUpstream`.
    """

    def __init__(self, base_url: str, **calling: Unpack[Calling]) -> None:
        self._url = base_url
        self._calling = calling
        self._lock = threading.Lock()
        self._found: Models | str = []
        self._stale_at = float("-inf")

    def models(self) -> Models:
        # Under the lock, so that simultaneous requests ask the server once.
        with self._lock:
            if time.monotonic() >= self._stale_at:
                try:
                    self._found = asyncio.run(fetch_models(self._url, **self._calling))
                except Unavailable as fault:
                    self._found = str(fault)
                self._stale_at = time.monotonic() + _KEPT_S
            if isinstance(self._found, str):
                raise Unavailable(self._found)
            return list(self._found)


async def fetch_models(base_url: str, **calling: Unpack[Calling]) -> Models:
    """Return the model objects listed by a server; raises Unavailable."""
    url = f"{base_url.rstrip('/')}/models"
    calling = calling.copy()
    calling["connect_timeout_s"] = min(calling["connect_timeout_s"], _CONNECT_TIMEOUT_S)
    calling["max_answer_bytes"] = _MAX_BYTES
    upstream = HttpUpstream(base_url, **calling)
    try:
        answer = await upstream.get("/v1/models", _TIMEOUT_S)
    finally:
        await upstream.close()
    if answer.error is not None:
        raise Unavailable(f"The upstream at {url} does not answer: {answer.error[1]}")
    if answer.status != 200:
        raise Unavailable(f"The upstream at {url} answered {answer.status}.")
    answered: Any = msgspec.json.decode(without_surrogates(answer.body))
    models = answered.get("data") if isinstance(answered, dict) else None
    if not isinstance(models, list):
        raise Unavailable(f"The upstream at {url} answered with no list of models.")
    return [model for model in models if isinstance(model, dict) and isinstance(model.get("id"), str)]
