"""The lines of an input file, found piece by piece."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from app.domain.limits import MAX_LINE_BYTES

_BOM = b"\xef\xbb\xbf"
# A line may have marks around its bytes and still be within the limit: the byte order mark before, the \r behind.
_HELD_BYTES = MAX_LINE_BYTES + len(_BOM) + 1
_NOT_BLANK = re.compile(rb"\S")
# White-space bytes are at most this byte.
_LAST_BLANK = ord(" ")


class SourceLine(NamedTuple):
    """A line of the file without its ending; `data` is None if the line is too long to be held."""

    number: int
    offset: int
    data: bytes | None


def read_lines(pieces: Iterable[bytes]) -> Iterator[SourceLine]:
    r"""Yield the lines that are not blank; numbers are 1-based and count blank lines.

    Lines end with \n or \r\n, the last line also with the end of the file; a byte order mark before the first line is
    left out. A line that can't be within the limit is not held during reading. Pieces are shorter than the limit.
    """
    number = 1
    # The offset of the piece in the file.
    base = 0
    # The start of a line whose end has not come yet, empty once the line is too long; and where the line begins.
    held: bytes | bytearray = b""
    length = begun = 0
    for piece in pieces:
        at = 0
        if length:
            at = piece.find(b"\n") + 1
            held, length = _longer(held, length, piece[: at - 1] if at else piece)
            if not at:
                base += len(piece)
                continue
            line = _line(number, begun, held, length)
            if line is not None:
                yield line
            number += 1
            held, length = b"", 0
        while at < len(piece):
            start = at
            if piece[at] > _LAST_BLANK:
                end = piece.find(b"\n", at)
            else:
                # Skip any number of blank lines in one step: line by line, a file of almost only blank lines would take
                # minutes.
                found = _NOT_BLANK.search(piece, at)
                start = piece.rfind(b"\n", at, found.start() if found else None) + 1 or at
                number += piece.count(b"\n", at, start)
                end = piece.find(b"\n", found.end()) if found else -1
            if end < 0:
                begun = base + start
                held, length = _longer(b"", 0, piece[start:])
                break
            line = _line(number, base + start, piece[start:end], end - start)
            if line is not None:
                yield line
            number += 1
            at = end + 1
        base += len(piece)
    line = _line(number, begun, held, length)
    if line is not None:
        yield line


def _longer(held: bytes | bytearray, length: int, part: bytes) -> tuple[bytes | bytearray, int]:
    length += len(part)
    if length > _HELD_BYTES:
        return b"", length
    grown = held if isinstance(held, bytearray) else bytearray(held)
    grown += part
    return grown, length


def _line(number: int, offset: int, held: bytes | bytearray, length: int) -> SourceLine | None:
    """Return a line to be checked; None for a blank line."""
    if length != len(held):
        return SourceLine(number, offset, None)
    data = bytes(held)
    if number == 1 and data.startswith(_BOM):
        data = data[len(_BOM) :]
        offset += len(_BOM)
    data = data.removesuffix(b"\r")
    return None if not data or data.isspace() else SourceLine(number, offset, data)
