"""Asks a single server of an upstream once, for the check."""

from app.adapters.upstream.calling import calling_of
from app.adapters.upstream.catalog import fetch_models
from app.adapters.upstream.client import HttpUpstream
from app.domain.errors import Unavailable
from app.domain.upstream import UpstreamSpec
from app.services.ports import Answer


class ProbedServer:
    """A server asked as workers ask, but over a new connection for each call."""

    def __init__(self, spec: UpstreamSpec, url: str) -> None:
        self._spec = spec
        self._url = url

    async def models(self) -> list[str] | None:
        try:
            found = await fetch_models(self._url, **calling_of(self._spec))
        except Unavailable:
            return None
        return [str(model["id"]) for model in found]

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        calling = calling_of(self._spec)
        # Shorter than the whole time; otherwise a failed connection would be reported as a missing answer.
        calling["connect_timeout_s"] = min(self._spec.connect_timeout_s, timeout_s / 2)
        upstream = HttpUpstream(self._url, **calling)
        try:
            return await upstream.call(endpoint, body, timeout_s)
        finally:
            await upstream.close()
