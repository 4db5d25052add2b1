"""A connection to an upstream: sends a request, waits for the answer, and tells whether it can be used again.

opened ──► busy ──► idle ──► busy …        `post` makes it busy, a whole answer makes it idle
             │        │
             └────────┴──► lost            a fault, a deadline, data without a request, the server closes
"""

import asyncio
from collections.abc import Callable
from typing import cast

from app.adapters.upstream.answer_memory import UNCOUNTED_BYTES, AnswerMemory
from app.adapters.upstream.answer_reader import AnswerReader, Reply
from app.adapters.upstream.faults import CallFault, FellSilent, HostGone, NothingHeard
from app.adapters.upstream.keepalive import GONE_AFTER_S, LOOK_EVERY_S, Pulse

# Up to this size head and body are joined in memory, mostly for a single packet; a larger body is not worth a copy.
_MAX_JOINED_BYTES = 64 * 1024


class Connection(asyncio.Protocol):
    """A connection, which carries one request at a time.

    Args:
        loop: the loop of the connection.
        silence_s: the longest time without data while an answer is awaited, for requests without a limit of their own.
        max_body_bytes: the most bytes of a body to keep, counted as received.
        memory: the budget shared by large answers.
        on_idle: called when the connection can carry another request.
        on_lost: called once, when the connection is gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        silence_s: float,
        max_body_bytes: int,
        memory: AnswerMemory,
        on_idle: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
    ) -> None:
        self._loop = loop
        self._silence_s = silence_s
        self._memory = memory
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._reader = AnswerReader(max_body_bytes)
        self._transport: asyncio.Transport | None = None
        self._pulse: Pulse | None = None
        self._answering: asyncio.Future[Reply] | None = None
        self._is_counted = False
        self._is_paused = False
        self.is_open = False
        self.idle_since = 0.0

    def post(self, head: bytes, body: bytes, deadline: float, silence_s: float | None = None) -> asyncio.Future[Reply]:
        """Send a request; the future ends with a Reply, a CallFault or TimeoutError.

        Args:
            head: the request's head, up to the value of the last header, the content length.
            body: the body of the request.
            deadline: in the loop's time; noticed when `check` is called after the deadline.
            silence_s: the longest time without data; the connection's own limit where left out.
        """
        answering = self._begin(deadline, self._silence_s if silence_s is None else silence_s)
        transport = self._transport
        if self._answering is answering and transport is not None:
            # The whole request is handed over at once: the bytes are in memory already, so waiting for room in the
            # socket would save no memory.
            if len(body) <= _MAX_JOINED_BYTES:
                transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
            else:
                transport.write(b"%b%d\r\n\r\n" % (head, len(body)))
                transport.write(body)
        return answering

    def send(self, request: bytes, deadline: float) -> asyncio.Future[Reply]:
        """Send a request without a body, as `post` does."""
        answering = self._begin(deadline, self._silence_s)
        if self._answering is answering and self._transport is not None:
            self._transport.write(request)
        return answering

    def _begin(self, deadline: float, silence_s: float) -> asyncio.Future[Reply]:
        """Expect an answer; the future has already failed where the connection is gone."""
        answering: asyncio.Future[Reply] = self._loop.create_future()
        if not self.is_open:
            answering.set_exception(NothingHeard("the server closed the connection before it was used"))
            return answering
        self._answering = answering
        self._deadline = deadline
        self._longest_silence_s = silence_s
        self._heard_at = self._looked_at = self._loop.time()
        self._reader.expect()
        return answering

    def check(self, now: float) -> bool:
        """End a request past a limit or to a dead host; return whether a request is still in flight."""
        if self._answering is None:
            return False
        if now >= self._deadline:
            self.fail(TimeoutError())
            return False
        if now - self._heard_at >= self._longest_silence_s and not self._is_paused:
            self.fail(FellSilent())
            return False
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            if self._pulse is not None and self._pulse.is_gone():
                self.fail(HostGone(f"its host has acknowledged nothing for {GONE_AFTER_S} s"))
                return False
        return True

    def give_up(self, answering: asyncio.Future[Reply]) -> None:
        """Close the connection if the connection still carries this request."""
        if self._answering is answering:
            self._answering = None
            self.abort()

    def fail(self, error: Exception) -> None:
        """Close the connection; a request in flight ends with the error."""
        answering, self._answering = self._answering, None
        self.abort()
        if answering is not None and not answering.done():
            answering.set_exception(error)

    def abort(self) -> None:
        """Close the connection now."""
        self.is_open = False
        self._release_memory()
        if self._transport is not None:
            self._transport.abort()

    # The callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        self._pulse = Pulse(sock) if sock is not None else None
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._answering is None:
            # No request is in flight: the next answer could not be told from this data.
            self.abort()
            return
        try:
            is_complete = self._reader.feed(data)
        except CallFault as fault:
            self.fail(fault)
            return
        if is_complete:
            self._finish()
            return
        self._heard_at = self._loop.time()
        if self._reader.size > UNCOUNTED_BYTES:
            self._take_memory()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self._on_lost(self)

    def _take_memory(self) -> None:
        self._is_counted = True
        if not self._memory.take(self, self._reader.size, self._read_on) and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _read_on(self) -> None:
        self._is_paused = False
        self._heard_at = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _release_memory(self) -> None:
        if self._is_counted:
            self._is_counted = self._is_paused = False
            self._memory.release(self)

    def _finish(self) -> None:
        """Hand over the answer; keep the connection if no bytes are left on it, in either direction."""
        answering, self._answering = self._answering, None
        transport = self._transport
        reply = self._reader.reply()
        is_keepable = self._reader.is_keepable and self.is_open
        if is_keepable and transport is not None and not transport.get_write_buffer_size():
            self._release_memory()
            self.idle_since = self._loop.time()
            self._on_idle(self)
        else:
            self.abort()
        if answering is not None and not answering.done():
            answering.set_result(reply)

    def _end(self, error: Exception | None) -> None:
        """End the answer with the bytes received: the server sends nothing more."""
        self.is_open = False
        if self._answering is None:
            return
        try:
            self._reader.end(error)
        except CallFault as fault:
            self.fail(fault)
        else:
            self._finish()
