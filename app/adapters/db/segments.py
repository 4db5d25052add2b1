"""Segments of results: what one commit brings for a section, packed into few rows, and read again in any order."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from sqlalchemy import Connection, Engine, bindparam, select, text

from app.adapters.db.engine import reading
from app.adapters.db.tables import segments
from app.domain.batch import Usage
from app.domain.limits import MIB
from app.domain.result import Result

# position (u32), ok (u8), length of the payload (u32), and the four counts of tokens (u32)
_LINE = Struct("<IBI4I")
LINE_BYTES = _LINE.size
# The most bytes of a segment, except for a single larger payload. SQLite reads a segment whole even for one result:
# with larger segments, reading the results in another order than that of recording takes too long. PostgreSQL reads
# the wanted pieces, and recording costs less with larger segments.
_SEGMENT_BYTES = {"sqlite": 16 * 1024, "postgresql": MIB}
# The most bytes of a page, except for a single larger payload; several batches may be read in parallel.
_PAGE_BYTES = 4 * MIB
# Segments that are read whole come together, up to this many bytes and this many rows.
_READ_BYTES = MIB
_READ_ROWS = 250
# On PostgreSQL a segment is read piece by piece if less than one byte in so many is wanted.
_GOOD_PART = 4

_LINES = (
    select(segments.c.seq, segments.c.lines)
    .where(segments.c.batch_id == bindparam("batch_id"))
    .order_by(segments.c.seq)
)
_WHOLE = select(segments.c.seq, segments.c.payload).where(segments.c.seq.in_(bindparam("seqs", expanding=True)))
# PostgreSQL then reads no other part of a payload; SQLAlchemy has no form for this statement.
_PIECES = text("""
SELECT piece.position, substr(segments.payload, piece.start + 1, piece.length)
FROM unnest(
    CAST(:seqs AS bigint[]), CAST(:positions AS integer[]), CAST(:starts AS integer[]), CAST(:lengths AS integer[])
) AS piece (seq, position, start, length)
JOIN segments ON segments.seq = piece.seq
""")


def pack_segments(results: Iterable[Result], dialect: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the lines and the payload of each segment of these results, for a database of this dialect."""
    most = _SEGMENT_BYTES[dialect]
    some: list[Result] = []
    size = 0
    for result in results:
        if some and size + len(result.payload) > most:
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

    In memory are the lines of all segments, some 40 bytes for each result of the batch, a page of payloads, and up to a
    MiB of the segments that hold the payloads.
    """

    def __init__(self, engine: Engine, batch_id: str) -> None:
        self._engine = engine
        self._reads_pieces = engine.dialect.name == "postgresql"
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
        whole, apart = list[int](), list[_Piece]()
        with reading(self._engine) as connection:
            for segment, pieces in by_segment.items():
                size = self._sizes[segment]
                if self._reads_pieces and sum(piece.length for piece in pieces) * _GOOD_PART < size:
                    apart += pieces
                    continue
                if whole and (self._bytes_of(whole) + size > _READ_BYTES or len(whole) == _READ_ROWS):
                    found |= self._read_whole(connection, whole, by_segment)
                    whole = []
                whole.append(segment)
            if whole:
                found |= self._read_whole(connection, whole, by_segment)
            if apart:
                found |= self._read_pieces(connection, apart)
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

    def _read_pieces(self, connection: Connection, pieces: Sequence[_Piece]) -> dict[int, bytes]:
        given = {
            "seqs": [self._seqs[piece.segment] for piece in pieces],
            "positions": [piece.position for piece in pieces],
            "starts": [piece.start for piece in pieces],
            "lengths": [piece.length for piece in pieces],
        }
        return {row[0]: row[1] for row in connection.execute(_PIECES, given)}
