"""A server on a free loopback port that says exactly the bytes it is told to, faults included."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import uvloop

from app.adapters.upstream.client import HttpUpstream
from app.services.ports import Answer

Result = TypeVar("Result")
CHAT = "/v1/chat/completions"
Handler = Callable[["Conversation"], Awaitable[None]]


class Conversation:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read_head(self) -> bytes:
        """Return the head of the next request, in lower case."""
        return (await self._reader.readuntil(b"\r\n\r\n")).lower()

    async def read_request(self) -> tuple[bytes, bytes]:
        """Return the head, in lower case, and the body of the next request."""
        head = await self.read_head()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        return head, await self._reader.readexactly(length)

    async def read_some(self) -> bytes:
        """Return bytes that have come, whatever they are."""
        return await self._reader.read(2**16)

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()

    def reset(self) -> None:
        """Break the connection off, without the goodbye of a close."""
        self._writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing more until the client is gone."""
        await self._reader.read()


def on_uvloop(main: Coroutine[Any, Any, Result]) -> Result:
    """Run the coroutine on the kind of loop that workers have."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve each connection by `handler`, then close it; yields the base URL."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await handler(Conversation(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client went away, which some tests are about.
        finally:
            writer.close()
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20, ssl=tls)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{'https' if tls else 'http'}://{host}:{port}/v1"
    finally:
        server.close()
        if running:
            await asyncio.wait(running, timeout=5)


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return a whole HTTP answer; `length` is what it says of its body where that is not true."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def always(*pieces: bytes) -> Handler:
    """Return a handler that answers each request of a connection with these bytes."""

    async def handle(conversation: Conversation) -> None:
        while True:
            await conversation.read_request()
            await conversation.say(*pieces)

    return handle


def once(*pieces: bytes) -> Handler:
    """Return a handler that answers the first request with these bytes and closes the connection."""

    async def handle(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.say(*pieces)

    return handle


async def call_at(url: str, *, times: int = 1, body: bytes = b"{}", timeout_s: float = 5.0, **settings: Any) -> Answer:
    """Call the chat endpoint `times` times and return the last answer."""
    limits = {"api_key": None, "connect_timeout_s": 5.0, "first_byte_timeout_s": 5.0} | settings
    upstream = HttpUpstream(url, **limits)
    try:
        for _ in range(times):
            last = await upstream.call(CHAT, body, timeout_s)
        return last
    finally:
        await upstream.close()


def call(handler: Handler, **how: Any) -> Answer:
    """Return the answer to the last call to a server that behaves so."""

    async def run() -> Answer:
        async with serving(handler) as url:
            return await call_at(url, **how)

    return on_uvloop(run())


@contextmanager
def refusing() -> Iterator[str]:
    """Hold a port on which nobody listens; yields the base URL."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@contextmanager
def never_accepting() -> Iterator[str]:
    """Listen with a full queue, so that one more connection waits; yields the base URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        queued = [socket.socket() for _ in range(2)]
        for client in queued:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            for client in queued:
                client.close()
