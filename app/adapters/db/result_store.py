"""Results in the database: recorded once for each line, in segments, and counted in the same transaction.

A section has a bit for each line with a result. The row of the section is locked while the bits are looked at and set,
so that a second result of a line is dropped, and so is a result that comes once the section was closed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Integer, Row, bindparam, delete, func, insert, select, update

from app.adapters.db.batch_row import SECTION, section_of
from app.adapters.db.engine import reading, writing
from app.adapters.db.model_counts import count_by_model
from app.adapters.db.segments import LINE_BYTES, SegmentReader, pack_segments
from app.adapters.db.stages import SENDING, SENT, UNCLEARED
from app.adapters.db.tables import batches, sections, segments
from app.domain.batch import Section, Usage
from app.domain.result import Result
from app.services.ports import Progress

# A transaction clears many small batches, because each transaction costs a sync of the disk.
_BATCHES_PER_CLEAR = 200

# Built once: building a statement costs more than running it.
_LOCK = (
    select(sections.c.id, sections.c.batch_id, sections.c.number, sections.c.lines_per_task, sections.c.recorded)
    .add_columns(*SECTION)
    .where(sections.c.batch_id.in_(bindparam("ids", expanding=True)), sections.c.is_open)
    .order_by(sections.c.batch_id, sections.c.number)
    .with_for_update()
)
_ADD = insert(segments)
_COUNT = (
    update(sections)
    .where(sections.c.id == bindparam("of_id"))
    .values({name: bindparam(f"new_{name}") for name in ("completed", "failed", "recorded")})
)
_LEAVE = (
    update(batches)
    .where(batches.c.id == bindparam("of_id"))
    .values(sections_left=batches.c.sections_left - bindparam("whole"))
    .returning(batches.c.sections_left)
)
_BITS = (
    select(sections.c.first_line, sections.c.recorded)
    .where(sections.c.batch_id == bindparam("batch_id"))
    .where(sections.c.first_line < bindparam("end"), sections.c.end_line > bindparam("first"))
)
_SENT_BITS = (
    select(sections.c.batch_id, sections.c.lines_per_task, sections.c.recorded, *SECTION)
    .where(sections.c.batch_id.in_(bindparam("ids", expanding=True)), sections.c.stage.in_((SENDING, SENT)))
    .order_by(sections.c.batch_id, sections.c.number)
)
_UNCLEARED = (
    select(batches.c.id, batches.c.completed + batches.c.failed)
    .where(batches.c.stage == UNCLEARED)
    .order_by(batches.c.expires_at, batches.c.seq)
    .limit(bindparam("limit"))
)
_SEGMENTS = (
    select(segments.c.seq, func.length(segments.c.lines, type_=Integer) // LINE_BYTES)
    .where(segments.c.batch_id == bindparam("batch_id"))
    .order_by(segments.c.seq)
    .limit(bindparam("limit"))
)


class SqlResultStore:
    """`ResultStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, results: Sequence[Result]) -> list[Progress]:
        by_batch: dict[str, list[Result]] = defaultdict(list)
        for result in results:
            by_batch[result.batch_id].append(result)
        if not by_batch:
            return []
        with writing(self._engine) as connection:
            locked = connection.execute(_LOCK, {"ids": sorted(by_batch)}).all()
            return _record(connection, [part for row in locked if (part := _part(row, by_batch[row.batch_id])).given])

    def recorded(self, batch_id: str, first: int, end: int) -> set[int]:
        with reading(self._engine) as connection:
            rows = connection.execute(_BITS, {"batch_id": batch_id, "first": first, "end": end}).all()
        found: set[int] = set()
        for first_line, bits in rows:
            start = max(first, first_line)
            of_span = int.from_bytes(bits, "little") >> (start - first_line) & (1 << (end - start)) - 1
            found.update(_positions(start, of_span))
        return found

    def unrecorded(self, batch_ids: Sequence[str]) -> dict[str, list[int]]:
        with reading(self._engine) as connection:
            rows = connection.execute(_SENT_BITS, {"ids": list(batch_ids)}).all()
        found: dict[str, list[int]] = defaultdict(list)
        for batch_id, lines_per_task, bits, *values in rows:
            section = section_of(values)
            sent = (1 << section.dispatched(lines_per_task)) - 1
            found[batch_id] += _positions(section.first_line, sent & ~int.from_bytes(bits, "little"))
        return found

    def read(self, batch_id: str) -> Iterator[tuple[int, bool, bytes, Usage]]:
        return SegmentReader(self._engine, batch_id).read()

    def read_in(self, batch_id: str, order: Sequence[int]) -> Iterator[tuple[int, bool, bytes, Usage]]:
        return SegmentReader(self._engine, batch_id).read(order)

    def clear(self, limit: int) -> int:
        # Found outside the writing transaction, which then only clears the found batches.
        with reading(self._engine) as connection:
            found = connection.execute(_UNCLEARED, {"limit": _BATCHES_PER_CLEAR}).all()
            if not found:
                return 0
            whole = _small_ones(found, limit)
            some: list[Row[Any]] = []
            if not whole:
                values = {"batch_id": found[0].id, "limit": limit}
                some = list(connection.execute(_SEGMENTS, values))
                whole = [] if some else [found[0].id]
        with writing(self._engine) as connection:
            if not whole:
                seqs = _first_segments(some, limit)
                connection.execute(delete(segments).where(segments.c.seq.in_(seqs)))
                return limit
            connection.execute(delete(segments).where(segments.c.batch_id.in_(whole)))
            connection.execute(update(batches).where(batches.c.id.in_(whole)).values(has_results=False))
            return max(sum(int(recorded) for batch_id, recorded in found if batch_id in whole), 1)


class _Part(NamedTuple):
    """A locked section, and the results given for its lines."""

    row_id: int
    batch_id: str
    number: int
    lines_per_task: int
    section: Section
    completed: int
    failed: int
    bits: bytearray
    given: list[Result]


def _part(row: Row[Any], results: Sequence[Result]) -> _Part:
    row_id, batch_id, number, lines_per_task, recorded, *values = tuple(row)
    section, (completed, failed) = section_of(values), values[-2:]
    given = [result for result in results if section.first_line <= result.position < section.end_line]
    return _Part(row_id, batch_id, number, lines_per_task, section, completed, failed, bytearray(recorded), given)


def _record(connection: Connection, parts: Sequence[_Part]) -> list[Progress]:
    rows, counts, of_models, recorded = list[Any](), list[Any](), list[Any](), dict[int, int]()
    whole: dict[str, int] = defaultdict(int)
    for part in parts:
        new = _take_new(part)
        recorded[part.row_id] = part.section.recorded + len(new)
        if not new:
            continue
        of_part = {"batch_id": part.batch_id, "section": part.number}
        rows += [{**of_part, "lines": lines, "payload": payload} for lines, payload in pack_segments(new)]
        ok = sum(result.ok for result in new)
        totals = {"new_completed": part.completed + ok, "new_failed": part.failed + len(new) - ok}
        counts.append({"of_id": part.row_id, "new_recorded": bytes(part.bits), **totals})
        of_models.append((part.batch_id, part.section.upstream, new))
        whole[part.batch_id] += len(new) == part.section.unrecorded
    if rows:
        connection.execute(_ADD, rows)
        connection.execute(_COUNT, counts)
        count_by_model(connection, of_models)
    # The batches' rows come last, in the order of their ids.
    left = {
        batch_id: connection.execute(_LEAVE, {"of_id": batch_id, "whole": count}).scalar_one()
        for batch_id, count in whole.items()
        if count
    }
    progress = []
    for part in parts:
        section = part.section._replace(recorded=recorded[part.row_id])
        is_sent, outstanding = section.next_task >= section.end_task, section.outstanding(part.lines_per_task)
        progress.append(Progress(part.batch_id, is_sent, left.get(part.batch_id) == 0, outstanding, section.upstream))
    return progress


def _take_new(part: _Part) -> list[Result]:
    """Return the results of lines without a result, the first of each line, and set the bits of these lines."""
    bits, first, new = part.bits, part.section.first_line, list[Result]()
    for result in part.given:
        place, bit = divmod(result.position - first, 8)
        if not bits[place] & 1 << bit:
            bits[place] |= 1 << bit
            new.append(result)
    return new


def _positions(first_line: int, bits: int) -> Iterator[int]:
    """Return the positions of the lines whose bits are set, in order."""
    return (first_line + place for place, bit in enumerate(reversed(f"{bits:b}")) if bit == "1")


def _small_ones(uncleared: Iterable[Any], limit: int) -> list[str]:
    """Return the first of the batches, up to `limit` results in total."""
    ids = []
    for batch_id, recorded in uncleared:
        limit -= recorded
        if limit < 0:
            break
        ids.append(batch_id)
    return ids


def _first_segments(rows: Sequence[Any], limit: int) -> list[int]:
    """Return the first segments, at least one, up to `limit` results in total."""
    sizes = accumulate(lines for _, lines in rows)
    return [seq for (seq, _), size in zip(rows, sizes, strict=True) if size <= limit] or [rows[0][0]]
