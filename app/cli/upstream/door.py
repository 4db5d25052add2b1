"""The stand-in's listening socket, which can be shut for a while like the socket of a restarting server."""

import asyncio
import ssl
from collections.abc import Callable

# A thousand clients may connect at the same instant.
BACKLOG = 4096
# The pause between tries to reopen the port, which another program may have taken meanwhile.
_ASK_AGAIN_S = 0.1


class Door:
    """Accepts connections at an address, and can drop every open connection.

    Args:
        make: makes the protocol of a new connection.
        host: the address to listen on.
        port: 0 takes a free port, and keeps the port from then on.
        tls: the TLS context of connections; None for plain TCP.
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
        """Listen; OSError if the address can't be used."""
        self._server = await self._loop.create_server(self._make, self._host, self.port, backlog=BACKLOG, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    def came_in(self, transport: asyncio.Transport) -> None:
        """Remember an open connection."""
        self._transports.add(transport)

    def went_out(self, transport: asyncio.Transport) -> None:
        """Forget a connection."""
        self._transports.discard(transport)

    def close(self) -> None:
        """Stop listening; open connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def shut_for(self, seconds: float) -> None:
        """Drop the open connections and accept no connection for `seconds`; a door already shut keeps its time."""
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
