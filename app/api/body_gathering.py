"""A request's body on its way in, until it is whole: in memory while it is small, then in a file without a name."""

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Protocol, cast

from werkzeug.exceptions import RequestEntityTooLarge

from app.domain.errors import StorageFull, Unavailable
from app.domain.limits import MIB

_KIB = 1024
# Bodies of creates are smaller. So many connections at once must not hold more in memory.
MEMORY_BYTES = 16 * _KIB
PIECE_BYTES = 256 * _KIB
# One caller's turn: whoever else has sent something waits no longer for the disk than these bytes take.
_PIECES_A_TURN = 16
# A line with the size of a chunk, or a trailer.
_MAX_CHUNK_LINE_BYTES = 8 * _KIB
# What chunks may add to a body. A thousand may be of a byte each: some callers send line by line.
_FREE_CHUNKS = 1_000
_LEAST_CHUNK_BYTES = 16
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Framing(Protocol):
    """Says where a body ends."""

    is_done: bool

    @property
    def wanted(self) -> int:
        """How many bytes may be read without reading into the next request, if that is known."""

    def feed(self, data: bytes) -> int:
        """Return how many of these bytes belong to the body."""


class KnownLength:
    """The end of a body whose length the head says."""

    def __init__(self, length: int) -> None:
        self.wanted = length
        self.is_done = length == 0

    def feed(self, data: bytes) -> int:
        taken = min(len(data), self.wanted)
        self.wanted -= taken
        self.is_done = self.wanted == 0
        return taken


class Chunks:
    """The end of a body in chunks (RFC 9112 7.1).

    What is wrong with a chunk is left to gunicorn's own reader: here the body just ends.
    """

    wanted = PIECE_BYTES

    def __init__(self) -> None:
        self.is_done = False
        self._line = bytearray()
        self._chunk_left = 0
        self._chunks = 0
        self._size = 0
        self._take: Callable[[bytes, int], int] = self._take_size

    def feed(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not self.is_done:
            at = self._take(data, at)
        self._size += at
        if self._chunks > _FREE_CHUNKS + self._size // _LEAST_CHUNK_BYTES:
            self.is_done = True
        return at

    def _line_end(self, data: bytes, at: int) -> int:
        """Take bytes up to the end of a line; return where that is, or the end of the data."""
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end + 1
        self._line += data[at:end]
        if len(self._line) > _MAX_CHUNK_LINE_BYTES:
            self.is_done = True
        return end

    def _take_size(self, data: bytes, at: int) -> int:
        end = self._line_end(data, at)
        if self._line.endswith(b"\n"):
            try:
                size = int(self._line.partition(b";")[0], 16)
            except ValueError:
                size = -1
            self._line.clear()
            self._chunks += 1
            # The line break behind the chunk belongs to it.
            self._chunk_left = size + 2
            self._take = self._take_chunk if size > 0 else self._take_trailers
            self.is_done = size < 0
        return end

    def _take_chunk(self, data: bytes, at: int) -> int:
        taken = min(self._chunk_left, len(data) - at)
        self._chunk_left -= taken
        if self._chunk_left == 0:
            self._take = self._take_size
        return at + taken

    def _take_trailers(self, data: bytes, at: int) -> int:
        end = self._line_end(data, at)
        if bytes(self._line) in (b"\r\n", b"\n"):
            self.is_done = True
        elif self._line.endswith(b"\n"):
            # Trailers together have the bound of the body's size.
            self._line.clear()
        return end


class BodyGathering:
    """What has come of one body."""

    def __init__(
        self,
        framing: Framing,
        start: bytes,
        most_bytes: int,
        folder: Path | None,
        open_file: Callable[[], Any] | None = None,
    ) -> None:
        """Begin with what came together with the head.

        Args:
            framing: says where the body ends.
            start: the first bytes behind the head; what is past the body's end is kept as `rest`.
            most_bytes: the most that a body may have, its framing included.
            folder: where bodies that are not small are kept; None is the system's own folder for such files.
            open_file: opens what they are kept in, in place of a file in that folder.
        """
        self._framing = framing
        self._most_bytes = most_bytes
        self._file: IO[bytes] = open_file() if open_file else _nameless_file(folder)
        self._size = 0
        # The start of the next request.
        self.rest = b""
        # Why the body is not whole and never will be; whoever reads it is told by this.
        self.fault: Exception | None = None
        self.take(start)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return self._framing.is_done or self.fault is not None

    @property
    def is_small(self) -> bool:
        """Whether the next piece stays in memory."""
        return bool(self._size + min(self._framing.wanted, PIECE_BYTES) <= MEMORY_BYTES)

    def receive(self, sock: socket.socket) -> int | None:
        """Take what has come; return how many bytes that is, None where the caller is gone."""
        received = 0
        for _ in range(_PIECES_A_TURN):
            try:
                data = sock.recv(max(1, min(self._framing.wanted, PIECE_BYTES)), socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                return None
            if not data:
                return None
            received += len(data)
            self.take(data)
            if self.is_over:
                break
        return received

    def rewound(self) -> IO[bytes]:
        """Return the bytes that have come, to be read from the first on."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()

    def take(self, data: bytes) -> None:
        """Keep bytes that have come."""
        taken = self._framing.feed(data)
        self.rest = data[taken:]
        self._size += taken
        if self._size > self._most_bytes:
            self.fault = RequestEntityTooLarge()
            return
        try:
            self._file.write(data[:taken])
        except OSError as fault:
            if fault.errno in _FULL:
                self.fault = StorageFull("No room is left where bodies of requests are kept until they are whole.")
            else:
                self.fault = Unavailable(f"The body of a request can't be kept: {fault}")


def _nameless_file(folder: Path | None) -> IO[bytes]:
    # A `BodyGathering` closes it.
    file = SpooledTemporaryFile(MEMORY_BYTES, dir=None if folder is None else str(folder))  # noqa: SIM115
    return cast("IO[bytes]", file)


def most_gathered(limit: int | None, default: int) -> int:
    """Return how many bytes a body may have on the way: what the application takes, and its framing as much again."""
    limit = default if limit is None else min(limit, default)
    return limit + max(limit // 8, MIB)
