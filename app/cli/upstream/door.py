"""Where connections come in: a listening socket that can be shut for a while, as that of a server that is restarted."""

import asyncio
import ssl
from collections.abc import Callable

# A thousand clients may connect at the same instant.
BACKLOG = 4096
# Another program may have taken the port meanwhile: it is asked for again this often.
_ASK_AGAIN_S = 0.1


class Door:
    """Lets connections in at one address and can drop them all.

    Args:
        make: makes the protocol of a new connection.
        host: the address to listen on.
        port: 0 takes a free one, which stays the same from then on.
        tls: what connections are secured with; None leaves them plain.
    """

    def __init__(
        self, make: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make = make
        self._host = host
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._transports: set[asyncio.Transport] = set()
        self.port = port

    async def open(self) -> None:
        """Listen; OSError where that can't be."""
        self._server = await self._loop.create_server(self._make, self._host, self.port, backlog=BACKLOG, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    def came_in(self, transport: asyncio.Transport) -> None:
        """Remember an open connection."""
        self._transports.add(transport)

    def went_out(self, transport: asyncio.Transport) -> None:
        """Forget a connection."""
        self._transports.discard(transport)

    def close(self) -> None:
        """Listen no more; open connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def shut_for(self, seconds: float) -> None:
        """Drop all connections and let none in for so long; while shut already, that time stays as it is."""
        if self._server is None:
            return
        self.close()
        for transport in tuple(self._transports):
            transport.abort()
        self._opening = self._loop.create_task(self._open_after(seconds))

    async def _open_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while True:
            try:
                await self.open()
            except OSError:
                await asyncio.sleep(_ASK_AGAIN_S)
            else:
                return
