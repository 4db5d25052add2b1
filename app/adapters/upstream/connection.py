"""One connection to an upstream: sends a request, parses its answer, and tells whether it can be used again.

opened ──► busy ──► idle ──► busy …        `post` makes it busy, a whole answer makes it idle
             │        │
             └────────┴──► lost            a fault, a deadline, data that nobody asked for, the server's will
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from app.adapters.upstream.faults import AnswerCutOff, AnswerGarbled, NothingHeard, ServerDisconnected

# The only headers whose values anyone reads.
_KEPT = {
    name.encode(): name
    for name in (
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "location",
        "retry-after",
        "retry-after-ms",
        "transfer-encoding",
        "x-request-id",
    )
}
# Servers bound what they take as headers at a quarter of this. It holds for all that comes without a piece of body
# in between: headers, interim answers, trailers.
_MAX_HEAD_BYTES = 64 * 1024
# Up to here head and body go into one piece of memory and mostly one packet; a larger body is not worth a copy.
_MAX_JOINED_BYTES = 64 * 1024
# Of an answer that says it is too large only this much is awaited: what its error shows.
_START_BYTES = 8_000
_FIRST_FINAL_STATUS = 200


class Reply(NamedTuple):
    """An HTTP answer: `headers` are the few that are kept, in lower case; `body` is cut where not `is_whole`."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool


class Connection(asyncio.Protocol):
    """One connection, which carries one request at a time.

    Args:
        loop: the loop that it belongs to.
        silence_s: the longest time without data while an answer is awaited.
        max_body_bytes: the most of a body that is kept, as it comes over the wire.
        on_idle: called when it can carry another request.
        on_lost: called once, when it is gone.
    """

    # Of the answer that is awaited; each request begins them anew.
    _room: int
    _is_complete: bool

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        silence_s: float,
        max_body_bytes: int,
        on_idle: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
    ) -> None:
        self._loop = loop
        self._silence_s = silence_s
        self._max_body_bytes = max_body_bytes
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Future[Reply] | None = None
        self.is_open = False
        self.idle_since = 0.0

    def post(self, head: bytes, body: bytes, deadline: float) -> asyncio.Future[Reply]:
        """Send a request; the future ends with its Reply, a CallFault or TimeoutError.

        The whole request is handed to the transport at once: it is in memory already, so waiting until the socket
        takes more would save none.

        Args:
            head: the request's head, up to the value of its last header, the content length.
            body: what follows it.
            deadline: in the loop's time; noticed when `check` is called after it.
        """
        answering: asyncio.Future[Reply] = self._loop.create_future()
        transport = self._transport
        if transport is None or not self.is_open:
            answering.set_exception(NothingHeard("the server closed the connection before it was used"))
            return answering
        self._answering = answering
        self._deadline = deadline
        self._heard_at = self._loop.time()
        self._expect_answer()
        if len(body) <= _MAX_JOINED_BYTES:
            transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        else:
            transport.write(b"%b%d\r\n\r\n" % (head, len(body)))
            transport.write(body)
        return answering

    def check(self, now: float) -> bool:
        """End the request whose time is up; returns whether one is in flight still."""
        if self._answering is None:
            return False
        if now < self._deadline and now - self._heard_at < self._silence_s:
            return True
        self.fail(TimeoutError())
        return False

    def give_up(self, answering: asyncio.Future[Reply]) -> None:
        """Close the connection if it still carries this request."""
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
        if self._transport is not None:
            self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are such transports without deriving from the class.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._answering is None:
            # Nobody asked: whatever this is, the next answer would not be told from it.
            self.abort()
            return
        room = self._room
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as fault:
            if not self._is_complete:
                self.fail(AnswerGarbled(f"{type(fault).__name__}: {fault}"))
                return
            self._is_keepable = False
        if self._is_complete:
            self._finish()
        else:
            self._go_on(len(data), self._room != room)

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self._on_lost(self)

    # What the parser calls. None of these may raise: the parser would hide what.

    def on_message_begin(self) -> None:
        if self._is_complete:
            # More than one answer to one request.
            self._is_keepable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        kept = _KEPT.get(name) or _KEPT.get(name.lower())
        # With a status set these are trailers.
        if kept is not None and not self._status:
            self._headers[kept] = value.decode("utf-8", "replace")

    def on_headers_complete(self) -> None:
        if self._is_complete:
            return
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL_STATUS:
            self._headers.clear()
            self._is_interim = True
            return
        self._status = status
        length = self._headers.get("content-length")
        if length is not None and int(length) > self._max_body_bytes:
            self._room = min(self._room, _START_BYTES)

    def on_body(self, piece: bytes) -> None:
        if self._is_complete:
            return
        room = self._room = self._room - len(piece)
        if room >= 0:
            self._pieces.append(piece)
            return
        self._pieces.append(piece[:room])
        self._is_complete = True
        self._is_whole = False

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
        elif not self._is_complete:
            self._is_complete = True
            self._is_keepable = self._parser.should_keep_alive()

    def _expect_answer(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._room = self._max_body_bytes
        self._bodiless_bytes = 0
        self._is_interim = False
        self._is_complete = False
        self._is_whole = True
        self._is_keepable = False

    def _go_on(self, size: int, has_body: bool) -> None:
        """Count what came without completing the answer."""
        self._heard_at = self._loop.time()
        self._bodiless_bytes = 0 if has_body else self._bodiless_bytes + size
        if self._bodiless_bytes > _MAX_HEAD_BYTES:
            self.fail(AnswerGarbled(f"more than {_MAX_HEAD_BYTES} bytes of headers"))

    def _finish(self) -> None:
        """Hand over the answer; the connection stays if nothing is left on it, either way."""
        answering, self._answering = self._answering, None
        transport = self._transport
        if self._is_keepable and self.is_open and transport is not None and not transport.get_write_buffer_size():
            self.idle_since = self._loop.time()
            self._on_idle(self)
        else:
            self.abort()
        if answering is not None and not answering.done():
            answering.set_result(Reply(self._status, self._headers, self._body(), self._is_whole))

    def _body(self) -> bytes:
        pieces = self._pieces
        # Kept by nobody else: an idle connection must hold no answer.
        self._pieces = []
        if len(pieces) == 1:
            return pieces[0]
        if self._is_whole:
            return b"".join(pieces)
        # Of what is too large no second copy is made: its start is in the first pieces.
        start = bytearray()
        for piece in pieces:
            start += piece[:_START_BYTES]
            if len(start) >= _START_BYTES:
                break
        return bytes(start)

    def _end(self, error: Exception | None) -> None:
        """Take what came as far as it goes: the server says nothing more."""
        self.is_open = False
        if self._answering is None:
            return
        reason = f": {error}" if error else ""
        if not self._status:
            fault = NothingHeard if not self._bodiless_bytes else ServerDisconnected
            self.fail(fault(f"the server closed the connection before it answered{reason}"))
        elif error is None and self._is_until_the_end():
            self._finish()
        else:
            self.fail(AnswerCutOff(f"the server closed the connection amid the answer{reason}"))

    def _is_until_the_end(self) -> bool:
        """Whether the answer's body ends with the connection, as one does that tells its length in no other way."""
        codings = self._headers.get("transfer-encoding", "").lower()
        return "content-length" not in self._headers and not codings.endswith("chunked")
