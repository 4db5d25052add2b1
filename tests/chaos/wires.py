"""Connections that can be cut: what a process reaches through a wire goes away when the harness says so."""

import asyncio
from contextlib import suppress
from pathlib import Path

from tests.chaos.backstage import Backstage

_PIECE_BYTES = 65_536


class Wire:
    """A port of this machine behind which there is another address.

    The port stays open when the wire is cut, so that nobody else takes it: who connects then is reset at once.
    """

    def __init__(self, backstage: Backstage, target: Path | int) -> None:
        """Listen; the target is a Unix socket or a port of this machine."""
        self._backstage = backstage
        self._target = target
        self._is_cut = False
        self._transports: set[asyncio.WriteTransport] = set()
        self._flowing = asyncio.Event()
        self._server = backstage.run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection, and each that is made from now on."""
        self._backstage.run(self._cut())

    def hold(self) -> None:
        """Let no byte through, in connections that are there and in new ones."""
        self._backstage.run(self._set_flowing(is_flowing=False))

    def heal(self) -> None:
        self._is_cut = False
        self._backstage.run(self._set_flowing(is_flowing=True))

    def close(self) -> None:
        self._backstage.run(self._close())

    async def _listen(self) -> asyncio.Server:
        self._flowing.set()
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _set_flowing(self, *, is_flowing: bool) -> None:
        if is_flowing:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _cut(self) -> None:
        self._is_cut = True
        for transport in list(self._transports):
            transport.abort()

    async def _close(self) -> None:
        await self._cut()
        self._flowing.set()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        self._transports.add(writer.transport)
        try:
            await self._flowing.wait()
            far_reader, far_writer = await self._connect()
        except OSError:
            self._drop(writer)
            return
        self._transports.add(far_writer.transport)
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._drop(writer)
        self._drop(far_writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, RuntimeError):
            while data := await reader.read(_PIECE_BYTES):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        # Neither Redis nor PostgreSQL go on with a connection of which one half is closed.
        writer.close()

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._transports.discard(writer.transport)
        writer.transport.abort()
