"""Asks a model server which models it has."""

import threading
import time
from typing import Any

import httpx

from app.domain.errors import Unavailable

# A server that is there takes the connection at once, and one that is not may have others behind it in the list.
_TIMEOUT = httpx.Timeout(5.0, connect=2.0)
# Every `GET /v1/models` asks; models change far less often, and who did not answer just now is not waited for again.
_KEPT_S = 5.0


class HttpCatalog:
    """The `/models` of one server; safe to use from several threads.

    Args:
        base_url: as for the client of the calls, such as `http://127.0.0.1:8000/v1`.
        api_key: sent as a bearer token where given.
    """

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self._url = f"{base_url.rstrip('/')}/models"
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._lock = threading.Lock()
        self._found: list[dict[str, object]] | str = []
        self._stale_at = float("-inf")

    def models(self) -> list[dict[str, object]]:
        # Under the lock, so that many requests at once ask the server once.
        with self._lock:
            if time.monotonic() >= self._stale_at:
                try:
                    self._found = self._fetch()
                except Unavailable as fault:
                    self._found = str(fault)
                self._stale_at = time.monotonic() + _KEPT_S
            if isinstance(self._found, str):
                raise Unavailable(self._found)
            return list(self._found)

    def _fetch(self) -> list[dict[str, object]]:
        try:
            # Past any proxy of the environment, as the calls go.
            response = httpx.get(self._url, headers=self._headers, timeout=_TIMEOUT, trust_env=False)
        except httpx.HTTPError as fault:
            raise Unavailable(f"The upstream at {self._url} does not answer: {fault}") from fault
        if response.status_code != httpx.codes.OK:
            raise Unavailable(f"The upstream at {self._url} answered {response.status_code}.")
        return _models_in(response)


def _models_in(response: httpx.Response) -> list[dict[str, object]]:
    fault = Unavailable(f"The upstream at {response.url} answered with no list of models.")
    try:
        answer: Any = response.json()
    except (ValueError, RecursionError):
        raise fault from None
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        raise fault
    return [model for model in models if isinstance(model, dict) and isinstance(model.get("id"), str)]
