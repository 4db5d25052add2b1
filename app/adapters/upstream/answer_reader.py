"""Reads the answers of a connection in turn, from the received bytes."""

from io import BytesIO
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from app.adapters.upstream.faults import AnswerCutOff, AnswerGarbled, NothingHeard, ServerDisconnected
from app.adapters.upstream.mending import mend_head

# No other header's value is ever read.
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
# Servers limit accepted headers to a quarter of this size. The limit holds for the bytes between two pieces of body:
# headers, interim answers, trailers.
_MAX_HEAD_BYTES = 64 * 1024
# A body with a chunk for each byte arrives as six times its size. With still more around the body, the answer is a
# flood.
_MAX_WIRE_TIMES = 8
# Of an answer whose length is over the limit, only these bytes are read: the error shows no more.
_START_BYTES = 8_000
_FIRST_FINAL_STATUS = 200


class Reply(NamedTuple):
    """An HTTP answer: `headers` has only the kept headers, in lower case; `body` is cut where `is_whole` is False."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool


class AnswerReader:
    """Reads a single answer at a time; the caller calls `expect` before each answer.

    Args:
        max_body_bytes: the most bytes of a body to keep, counted as received.
    """

    _headers: dict[str, str]
    _is_plain: bool

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._parser = self._new_parser()
        self._reset()

    def expect(self) -> None:
        """Begin the next answer."""
        # Most answers arrive in a single piece of data, and leave the other attributes unchanged.
        if not self._is_plain:
            self._reset()
            return
        self._status = 0
        self._headers = {}
        self._room = self._max_body_bytes
        self._is_complete = self._is_keepable = False

    def _reset(self) -> None:
        self._status = 0
        self._headers = {}
        self._room = self._max_body_bytes
        self._is_complete = self._is_keepable = False
        self._is_plain = True
        self._most_room = self._max_body_bytes
        # A body usually arrives in a single piece, which is kept as received. Further pieces are joined on arrival: a
        # list of many small pieces takes a hundred times as much memory.
        self._body = b""
        self._pieces: BytesIO | None = None
        self._bodiless_bytes = 0
        self._wire_bytes = 0
        self._is_interim = False
        self._is_whole = True
        self._is_mended = False
        # The bytes of the head received so far, until the head is complete.
        self._head: bytearray | None = None

    @property
    def size(self) -> int:
        """The bytes of the body kept so far."""
        return self._most_room - self._room

    @property
    def is_keepable(self) -> bool:
        """Whether the connection can carry another request after this answer."""
        return self._is_keepable and not self._is_mended

    def feed(self, data: bytes) -> bool:
        """Read more data; return whether the answer is complete.

        Raises:
            AnswerGarbled: the data is not an HTTP answer.
        """
        room = self._room
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as fault:
            self._is_keepable = self._is_plain = False
            if not self._is_complete:
                self._mend(data, fault)
        if self._is_complete:
            return True
        self._is_plain = False
        if not self._status:
            self._head = bytearray(data) if self._head is None else self._head + data
        self._bodiless_bytes = 0 if self._room != room else self._bodiless_bytes + len(data)
        self._wire_bytes += len(data)
        if self._bodiless_bytes > _MAX_HEAD_BYTES:
            raise AnswerGarbled(f"more than {_MAX_HEAD_BYTES} bytes of headers")
        if self._wire_bytes > _MAX_HEAD_BYTES + _MAX_WIRE_TIMES * self._max_body_bytes:
            raise AnswerGarbled("far more bytes around the pieces of the body than in them")
        return False

    def end(self, error: Exception | None) -> None:
        """End the answer, because the server sends nothing more.

        Raises:
            CallFault: the answer is not complete.
        """
        reason = f": {error}" if error else ""
        if not self._status:
            fault = ServerDisconnected if self._wire_bytes else NothingHeard
            raise fault(f"the server closed the connection before it answered{reason}")
        if error is not None or not self._is_until_the_end():
            raise AnswerCutOff(f"the server closed the connection amid the answer{reason}")
        self._is_complete = True

    def reply(self) -> Reply:
        """Return the answer and drop the body here: an idle connection must hold no answer."""
        body, pieces = self._body, self._pieces
        self._body, self._pieces = b"", None
        if self._is_plain and pieces is None:
            return Reply(self._status, self._headers, body, True)
        if pieces is not None:
            # A body over the limit is not copied whole.
            body = pieces.getvalue() if self._is_whole else bytes(pieces.getbuffer()[:_START_BYTES])
        elif not self._is_whole:
            body = body[:_START_BYTES]
        return Reply(self._status, self._headers, body, self._is_whole)

    # The callbacks of the parser. A callback must not raise: the parser would hide the exception.

    def on_message_begin(self) -> None:
        if self._is_complete:
            # The server sends a second answer to the request.
            self._is_keepable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        kept = _KEPT.get(name) or _KEPT.get(name.lower())
        # Once the status is set, further headers are trailers.
        if kept is not None and not self._status:
            self._headers[kept] = value.decode("utf-8", "replace")

    def on_headers_complete(self) -> None:
        if self._is_complete:
            return
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL_STATUS:
            self._headers.clear()
            self._is_interim = True
            self._is_plain = False
            return
        self._status = status
        length = self._headers.get("content-length")
        if length is not None and int(length) > self._max_body_bytes:
            # The start of the body is enough to tell the answer by.
            self._room = self._most_room = min(self._room, _START_BYTES)
            self._is_plain = False

    def on_body(self, piece: bytes) -> None:
        if self._is_complete:
            return
        room = self._room = self._room - len(piece)
        if room < 0:
            piece = piece[:room]
            self._is_complete = True
            self._is_whole = self._is_plain = False
        if self._pieces is not None:
            self._pieces.write(piece)
        elif self._body:
            self._pieces = BytesIO()
            self._pieces.write(self._body)
            self._pieces.write(piece)
            self._body = b""
        else:
            self._body = piece

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
        elif not self._is_complete:
            self._is_complete = True
            self._is_keepable = self._parser.should_keep_alive()

    def _new_parser(self) -> HttpResponseParser:
        parser = HttpResponseParser(self)
        # Servers that write the chunk size into a field of fixed width pad the field with spaces.
        parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        return parser

    def _mend(self, data: bytes, fault: Exception) -> None:
        """Read the head once more after the parser gave up inside the head; the old parser refuses any further data."""
        garbled = AnswerGarbled(f"{type(fault).__name__}: {fault}")
        if self._status:
            raise garbled
        try:
            mended = mend_head(bytes(self._head or b"") + data)
        except AnswerGarbled:
            raise garbled from None
        if mended is None:
            return
        self._is_mended = True
        self._is_interim = False
        self._headers = {}
        self._parser = self._new_parser()
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        try:
            self._parser.feed_data(mended)
        except (HttpParserError, HttpParserUpgrade):
            if not self._is_complete:
                raise garbled from None

    def _is_until_the_end(self) -> bool:
        """Return whether the body ends with the connection: the headers give neither a length nor chunks."""
        codings = self._headers.get("transfer-encoding", "").lower()
        return "content-length" not in self._headers and not codings.endswith("chunked")
