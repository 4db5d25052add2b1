"""One server of an upstream, asked once, for the check."""

import asyncio

from app.adapters.upstream.catalog import HttpCatalog
from app.adapters.upstream.client import HttpUpstream
from app.adapters.upstream.side_by_side import start
from app.domain.errors import Unavailable
from app.domain.upstream import UpstreamSpec
from app.services.ports import Answer


class ProbedServer:
    """A server asked as workers ask it, for each call over a new connection."""

    def __init__(self, spec: UpstreamSpec, url: str) -> None:
        self._spec = spec
        self._url = url

    async def models(self) -> list[str] | None:
        catalog = HttpCatalog(self._url, self._spec.api_key)
        try:
            found = await asyncio.wrap_future(start(catalog.models))
        except Unavailable:
            return None
        return [str(model["id"]) for model in found]

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        upstream = HttpUpstream(
            self._url,
            api_key=self._spec.api_key,
            # Shorter than the whole, or no connection would be told as no answer.
            connect_timeout_s=min(self._spec.connect_timeout_s, timeout_s / 2),
            first_byte_timeout_s=timeout_s,
        )
        try:
            return await upstream.call(endpoint, body, timeout_s)
        finally:
            await upstream.close()
