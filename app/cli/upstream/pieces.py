"""Answers of the stand-in in several pieces."""

from collections.abc import Iterator
from itertools import repeat

from app.cli.upstream import replies

MIB = 1024 * 1024
# Far more than a client should accept as an answer.
HUGE_MIB = 100
_OPENING, _CLOSING = b'{"choices":[{"message":{"role":"assistant","content":"', b'"}}]}'
# Shared bytes: the transport keeps references, not copies.
_ONE_MIB = b"x" * MIB
_ONE_MIB_CHUNK = b"%x\r\n%b\r\n" % (MIB, _ONE_MIB)


def half_of(data: bytes) -> bytes:
    """Return an answer up to the middle of its body."""
    body_at = data.index(b"\r\n\r\n") + 4
    return data[: (body_at + len(data)) // 2]


def slices(data: bytes, size: int) -> Iterator[bytes]:
    """Return the data in pieces of `size` bytes."""
    return (data[start : start + size] for start in range(0, len(data), size))


def huge() -> Iterator[bytes]:
    """Return an answer of 100 MiB with its length in the head."""
    size = b"content-length: %d" % (len(_OPENING) + HUGE_MIB * MIB + len(_CLOSING))
    yield replies.head(200, size) + _OPENING
    yield from repeat(_ONE_MIB, HUGE_MIB)
    yield _CLOSING


def flood() -> Iterator[bytes]:
    """Return an answer of 100 MiB in chunks."""
    yield replies.head(200, b"transfer-encoding: chunked") + _chunk(_OPENING)
    yield from repeat(_ONE_MIB_CHUNK, HUGE_MIB)
    yield _chunk(_CLOSING) + b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
