"""Gather a request's body until the body is whole: a small body in memory, a larger body in an unnamed file."""

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
# Bodies of create requests are smaller. Thousands of connections at once must not hold more in memory.
MEMORY_BYTES = 16 * _KIB
PIECE_BYTES = 256 * _KIB
# The pieces of a caller's turn: other callers wait for the disk no longer than the pieces take.
_PIECES_A_TURN = 16
# A line with the size of a chunk, or a trailer.
_MAX_CHUNK_LINE_BYTES = 8 * _KIB
# Limits on the overhead of chunks. A thousand chunks may hold a single byte: some callers send line by line.
_FREE_CHUNKS = 1_000
_LEAST_CHUNK_BYTES = 16
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Framing(Protocol):
    """Finds the end of a body."""

    is_done: bool

    @property
    def wanted(self) -> int:
        """The number of bytes to read without reading into the next request, if known."""

    def feed(self, data: bytes) -> int:
        """Return how many bytes of `data` belong to the body."""


class KnownLength:
    """The framing of a body with its length in the head."""

    def __init__(self, length: int) -> None:
        self.wanted = length
        self.is_done = length == 0

    def feed(self, data: bytes) -> int:
        taken = min(len(data), self.wanted)
        self.wanted -= taken
        self.is_done = self.wanted == 0
        return taken


class Chunks:
    """The framing of a body in chunks (RFC 9112 7.1).

    At a malformed chunk the body just ends: gunicorn's reader reports the error.
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
        """Take bytes up to the end of a line; return the offset of the line's end, or of the end of the data."""
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
            # Count the line break behind the chunk as well.
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
            # The limit on the body's size covers the trailers.
            self._line.clear()
        return end


class BodyGathering:
    """The received bytes of a body."""

    def __init__(
        self,
        framing: Framing,
        start: bytes,
        most_bytes: int,
        folder: Path | None,
        open_file: Callable[[], Any] | None = None,
    ) -> None:
        """Begin with the bytes received together with the head.

        Args:
            framing: finds the end of the body.
            start: the first bytes behind the head; bytes past the body's end are kept as `rest`.
            most_bytes: the most bytes of a body, framing included.
            folder: holds the files of larger bodies; None means the system's temporary folder.
            open_file: opens the file of the body, in place of a file in `folder`.
        """
        self._framing = framing
        self._most_bytes = most_bytes
        self._file: IO[bytes] = open_file() if open_file else _nameless_file(folder)
        self._size = 0
        # The start of the next request.
        self.rest = b""
        # The reason why the body will never be whole; raised when the application reads the body.
        self.fault: Exception | None = None
        self.take(start)

    @property
    def is_over(self) -> bool:
        """Whether the body is whole, or never will be."""
        return self._framing.is_done or self.fault is not None

    @property
    def is_small(self) -> bool:
        """Whether the next piece stays in memory."""
        return bool(self._size + min(self._framing.wanted, PIECE_BYTES) <= MEMORY_BYTES)

    def receive(self, sock: socket.socket) -> int | None:
        """Take the bytes that have come; return the number of bytes, or None if the caller is gone."""
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
        """Return the received bytes as a file, positioned at the first byte."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()

    def take(self, data: bytes) -> None:
        """Keep received bytes."""
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
    # `BodyGathering` closes the file.
    file = SpooledTemporaryFile(MEMORY_BYTES, dir=None if folder is None else str(folder))  # noqa: SIM115
    return cast("IO[bytes]", file)


def most_gathered(limit: int | None, default: int) -> int:
    """Return the most bytes of a body with framing: the application's limit, and room for framing on top."""
    limit = default if limit is None else min(limit, default)
    return limit + max(limit // 8, MIB)
