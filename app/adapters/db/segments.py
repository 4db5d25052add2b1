"""Segments of results: what one commit brings for a section, packed into few rows, and read again in any order."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, bindparam, func, literal_column, select

from app.adapters.db.engine import reading
from app.adapters.db.tables import segments
from app.domain.batch import Usage
from app.domain.limits import MIB
from app.domain.result import Result

# position (u32), ok (u8), length of the payload (u32), and the four counts of tokens (u32)
_LINE = Struct("<IBI4I")
LINE_BYTES = _LINE.size
# A larger row would be copied whole in many places at once; a single larger result is a row by itself.
_SEGMENT_BYTES = MIB
# The most bytes of a page, except for a single larger payload; several batches may be read in parallel.
_PAGE_BYTES = 4 * MIB
# Segments that are read whole come together, up to this many bytes and this many rows.
_READ_BYTES = MIB
_READ_ROWS = 250
# A segment is read whole if it is small, or if at least one byte in so many is wanted; else piece by piece.
_SMALL_BYTES = 128 * 1024
_GOOD_PART = 8
# Databases bound the columns of a statement.
_MOST_PIECES = 500

_LINES = (
    select(segments.c.seq, segments.c.lines)
    .where(segments.c.batch_id == bindparam("batch_id"))
    .order_by(segments.c.seq)
)
_WHOLE = select(segments.c.seq, segments.c.payload).where(segments.c.seq.in_(bindparam("seqs", expanding=True)))


def pack_segments(results: Iterable[Result]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the lines and the payload of each segment of these results."""
    some: list[Result] = []
    size = 0
    for result in results:
        if some and size + len(result.payload) > _SEGMENT_BYTES:
            yield _pack(some)
            some, size = [], 0
        some.append(result)
        size += len(result.payload)
    if some:
        yield _pack(some)


def _pack(results: Sequence[Result]) -> tuple[bytes, bytes]:
    lines = b"".join([pack_line(each.position, each.ok, len(each.payload), each.usage) for each in results])
    return lines, b"".join([each.payload for each in results])


def pack_line(position: int, ok: bool, length: int, used: Usage) -> bytes:
    """Return the `LINE_BYTES` bytes of a result in `lines`."""
    tokens = (used.input_tokens, used.cached_tokens, used.output_tokens, used.reasoning_tokens)
    return _LINE.pack(position, ok, length, *tokens)


class _Piece(NamedTuple):
    """The place of a payload: the index of its segment, and its bytes there."""

    position: int
    segment: int
    start: int
    length: int


class SegmentReader:
    """Reads the results of one batch, a bounded number of bytes at a time.

    In memory are the lines of all segments, some 40 bytes for each result of the batch, and one page of payloads.
    """

    def __init__(self, engine: Engine, batch_id: str) -> None:
        self._engine = engine
        with reading(engine) as connection:
            rows = connection.execute(_LINES, {"batch_id": batch_id}).all()
        self._seqs = [row.seq for row in rows]
        self._lines = b"".join(row.lines for row in rows)
        # By segment, the bytes of its payload. By result, in the order of recording, its segment and its first byte.
        self._sizes: list[int] = []
        self._segments, self._starts = array("I"), array("I")
        for number, row in enumerate(rows):
            start = 0
            for _, _, length, *_ in _LINE.iter_unpack(row.lines):
                self._segments.append(number)
                self._starts.append(start)
                start += length
            self._sizes.append(start)
        # By position, the place in the order of recording, or -1.
        positions = [position for position, *_ in _LINE.iter_unpack(self._lines)]
        self._places = array("i", [-1]) * (max(positions, default=-1) + 1)
        for place, position in enumerate(positions):
            self._places[position] = place

    def read(self, order: Iterable[int] | None = None) -> Iterator[tuple[int, bool, bytes, Usage]]:
        """Yield position, ok, payload and usage in this order of positions, by default in the order of positions."""
        for page in self._pages(range(len(self._places)) if order is None else order):
            payloads = self._payloads(page)
            for position, *_ in page:
                # Results of a batch that another process has ended may be gone by now.
                if position in payloads:
                    _, ok, _, *tokens = self._line_at(position)
                    yield position, bool(ok), payloads.pop(position), Usage(*tokens)

    def _line_at(self, position: int) -> tuple[int, ...]:
        return _LINE.unpack_from(self._lines, self._places[position] * LINE_BYTES)

    def _pages(self, order: Iterable[int]) -> Iterator[list[_Piece]]:
        page: list[_Piece] = []
        size = 0
        for position in order:
            if position >= len(self._places) or self._places[position] < 0:
                continue
            place, length = self._places[position], self._line_at(position)[2]
            if page and size + length > _PAGE_BYTES:
                yield page
                page, size = [], 0
            page.append(_Piece(position, self._segments[place], self._starts[place], length))
            size += length
        if page:
            yield page

    def _payloads(self, page: Sequence[_Piece]) -> dict[int, bytes]:
        by_segment: dict[int, list[_Piece]] = {}
        for piece in page:
            by_segment.setdefault(piece.segment, []).append(piece)
        found: dict[int, bytes] = {}
        whole: list[int] = []
        with reading(self._engine) as connection:
            for segment, pieces in by_segment.items():
                size = self._sizes[segment]
                if size > _SMALL_BYTES and sum(piece.length for piece in pieces) * _GOOD_PART < size:
                    found |= self._cut(connection, segment, pieces)
                    continue
                if whole and (self._bytes_of(whole) + size > _READ_BYTES or len(whole) == _READ_ROWS):
                    found |= self._read_whole(connection, whole, by_segment)
                    whole = []
                whole.append(segment)
            if whole:
                found |= self._read_whole(connection, whole, by_segment)
        return found

    def _bytes_of(self, numbers: Iterable[int]) -> int:
        return sum(self._sizes[number] for number in numbers)

    def _read_whole(
        self, connection: Connection, numbers: Sequence[int], wanted: dict[int, list[_Piece]]
    ) -> dict[int, bytes]:
        by_seq = {self._seqs[number]: wanted[number] for number in numbers}
        rows = connection.execute(_WHOLE, {"seqs": list(by_seq)})
        return {
            piece.position: payload[piece.start : piece.start + piece.length]
            for seq, payload in rows
            for piece in by_seq[seq]
        }

    def _cut(self, connection: Connection, segment: int, pieces: Sequence[_Piece]) -> dict[int, bytes]:
        """Read pieces of a segment: PostgreSQL then reads no other part of the payload."""
        found: dict[int, bytes] = {}
        for first in range(0, len(pieces), _MOST_PIECES):
            some = pieces[first : first + _MOST_PIECES]
            columns: list[Any] = [
                func.substr(segments.c.payload, literal_column(str(each.start + 1)), literal_column(str(each.length)))
                for each in some
            ]
            query = select(*columns).where(segments.c.seq == self._seqs[segment])
            # The places differ each time: keeping the statement would only fill memory.
            row = connection.execute(query, execution_options={"compiled_cache": None}).one_or_none()
            found |= {piece.position: value for piece, value in zip(some, row or (), strict=row is not None)}
        return found
