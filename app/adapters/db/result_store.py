"""Results in the database: a result per line, counted in the transaction that inserts the result."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, bindparam, delete, func, select, update

from app.adapters.db.batch_store import is_recording
from app.adapters.db.engine import reading, writing
from app.adapters.db.insert_results import insert_on_postgres, insert_on_sqlite
from app.adapters.db.stages import UNCLEARED
from app.adapters.db.tables import batches, results
from app.domain.batch import Section, Usage
from app.domain.limits import MIB
from app.domain.result import Result
from app.services.ports import Progress

# The rows of a read: payloads are usually a few kB, and a page about a megabyte.
_PAGE_ROWS = 250
# The most bytes of a read, except for a single larger payload; several batches may be read in parallel.
_PAGE_BYTES = 8 * MIB

# Built once: building a statement costs more than running it.
_LOCK = (
    select(batches.c.upstream, batches.c.mixed, batches.c.lines_per_task)
    .where(batches.c.id == bindparam("id"), is_recording())
    .with_for_update()
)
_COUNT = (
    update(batches)
    .where(batches.c.id == bindparam("id_"))
    .values(
        completed=batches.c.completed + bindparam("new_completed"),
        failed=batches.c.failed + bindparam("new_failed"),
        has_results=True,
    )
    .returning(
        batches.c.total,
        batches.c.completed + batches.c.failed,
        batches.c.lines_dispatched,
    )
)
_UNCLEARED = (
    select(batches.c.id, batches.c.completed + batches.c.failed)
    .where(batches.c.stage == UNCLEARED)
    .order_by(batches.c.expires_at, batches.c.seq)
    .limit(bindparam("limit"))
)
# A transaction clears many small batches, because each transaction costs a sync of the disk.
_BATCHES_PER_CLEAR = 200

_OF_BATCH = results.c.batch_id == bindparam("id")
_IN_SPAN = results.c.position.between(bindparam("first"), bindparam("last"))
_LISTED = results.c.position.in_(bindparam("positions", expanding=True))
# Both databases know the length of a large payload without reading the payload.
_LENGTH = func.length(results.c.payload)


def _select_results(*where: ColumnElement[bool]) -> Select[Any]:
    return select(
        results.c.position,
        results.c.ok,
        results.c.payload,
        results.c.input_tokens,
        results.c.cached_tokens,
        results.c.output_tokens,
        results.c.reasoning_tokens,
    ).where(_OF_BATCH, *where)


def _select_if_small(where: ColumnElement[bool]) -> Select[Any]:
    """Select results, or no rows where the results are too large for memory together."""
    # The sum is part of the statement: asking for the lengths first takes nearly as long as reading small results.
    in_all = select(func.sum(_LENGTH)).where(_OF_BATCH, where).correlate(None).scalar_subquery()
    return _select_results(where, in_all <= _PAGE_BYTES)


_SPAN_IF_SMALL = _select_if_small(_IN_SPAN)
_LISTED_IF_SMALL = _select_if_small(_LISTED)
_LISTED_RESULTS = _select_results(_LISTED)
_LISTED_LENGTHS = select(results.c.position, _LENGTH).where(_OF_BATCH, _LISTED)


class SqlResultStore:
    """`ResultStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert_new = insert_on_sqlite if engine.dialect.name == "sqlite" else insert_on_postgres

    def record(self, results: Sequence[Result]) -> list[Progress]:
        by_batch: dict[str, list[Result]] = defaultdict(list)
        for result in results:
            by_batch[result.batch_id].append(result)
        with writing(self._engine) as connection:
            # In a fixed order everywhere, to avoid a deadlock of two writers.
            recorded = [self._record(connection, batch_id, by_batch[batch_id]) for batch_id in sorted(by_batch)]
        return [progress for each in recorded for progress in each]

    def _record(self, connection: Connection, batch_id: str, new: list[Result]) -> list[Progress]:
        locked = connection.execute(_LOCK, {"id": batch_id}).one_or_none()
        if locked is None:
            return []
        upstream, mixed, per_task = locked
        if mixed is not None:
            sections = [Section(*section) for section in mixed]
            return self._record_mixed(connection, batch_id, sections, per_task, new)
        completed = self._insert_new(connection, batch_id, [result for result in new if result.ok])
        failed = self._insert_new(connection, batch_id, [result for result in new if not result.ok])
        row = connection.execute(_COUNT, {"id_": batch_id, "new_completed": completed, "new_failed": failed}).one()
        total, recorded, dispatched = row
        outstanding = max(dispatched - recorded, 0)
        return [Progress(batch_id, dispatched >= total, recorded >= total, outstanding, upstream)]

    def _record_mixed(
        self, connection: Connection, batch_id: str, sections: list[Section], per_task: int, new: list[Result]
    ) -> list[Progress]:
        """Record results of a batch with several upstreams, and count the results of each section."""
        by_section: dict[int, list[Result]] = defaultdict(list)
        ends = [section.end_line for section in sections]
        for result in new:
            by_section[bisect_right(ends, result.position)].append(result)
        completed = failed = 0
        for number, in_section in by_section.items():
            ok = self._insert_new(connection, batch_id, [result for result in in_section if result.ok])
            not_ok = self._insert_new(connection, batch_id, [result for result in in_section if not result.ok])
            completed, failed = completed + ok, failed + not_ok
            sections[number] = sections[number]._replace(recorded=sections[number].recorded + ok + not_ok)
        connection.execute(update(batches).where(batches.c.id == batch_id).values(mixed=sections))
        counts = {"id_": batch_id, "new_completed": completed, "new_failed": failed}
        total, recorded, _ = connection.execute(_COUNT, counts).one()
        progress = []
        for number in by_section:
            section = sections[number]
            is_whole, outstanding = section.next_task >= section.end_task, section.outstanding(per_task)
            progress.append(Progress(batch_id, is_whole, recorded >= total, outstanding, section.upstream))
        return progress

    def recorded(self, batch_id: str, first: int, end: int) -> set[int]:
        query = select(results.c.position).where(
            results.c.batch_id == batch_id, results.c.position >= first, results.c.position < end
        )
        with reading(self._engine) as connection:
            return set(connection.scalars(query))

    def count(self, batch_id: str, first: int, end: int) -> int:
        query = select(func.count()).where(
            results.c.batch_id == batch_id, results.c.position >= first, results.c.position < end
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def read(self, batch_id: str) -> Iterator[tuple[int, bool, bytes, Usage]]:
        with reading(self._engine) as connection:
            last = connection.scalar(select(func.max(results.c.position)).where(results.c.batch_id == batch_id))
        for first in range(0, 0 if last is None else last + 1, _PAGE_ROWS):
            span = range(first, first + _PAGE_ROWS)
            yield from self._read(batch_id, span, _SPAN_IF_SMALL, {"first": span[0], "last": span[-1]})

    def read_in(self, batch_id: str, order: Sequence[int]) -> Iterator[tuple[int, bool, bytes, Usage]]:
        for start in range(0, len(order), _PAGE_ROWS):
            listed = order[start : start + _PAGE_ROWS]
            yield from self._read(batch_id, listed, _LISTED_IF_SMALL, {"positions": listed})

    def _read(
        self, batch_id: str, positions: Sequence[int], if_small: Select[Any], values: dict[str, Any]
    ) -> Iterator[tuple[int, bool, bytes, Usage]]:
        """Yield the results at the positions, read at once or, if large, in smaller pages."""
        rows = self._rows(if_small, batch_id, values)
        if rows:
            yield from _in_order(rows, positions)
            return
        lengths = {row[0]: row[1] for row in self._rows(_LISTED_LENGTHS, batch_id, {"positions": positions})}
        for page in _pages((position, lengths[position]) for position in positions if position in lengths):
            # No variable holds the rows after the yield, so the rows are freed before the next page is read.
            yield from _in_order(self._rows(_LISTED_RESULTS, batch_id, {"positions": page}), page)

    def _rows(self, query: Select[Any], batch_id: str, values: dict[str, Any]) -> Sequence[Any]:
        with reading(self._engine) as connection:
            return connection.execute(query, {"id": batch_id, **values}).all()

    def clear(self, limit: int) -> int:
        # Found outside the writing transaction, which then only clears the found batches.
        with reading(self._engine) as connection:
            found = connection.execute(_UNCLEARED, {"limit": _BATCHES_PER_CLEAR}).all()
            if not found:
                return 0
            whole = _small_ones(found, limit)
            low = 0
            if not whole:
                of_first = select(func.min(results.c.position)).where(results.c.batch_id == found[0].id)
                low = connection.scalar(of_first)
                whole = [found[0].id] if low is None else []
        with writing(self._engine) as connection:
            if not whole:
                is_next = and_(results.c.batch_id == found[0].id, results.c.position < low + limit)
                return max(connection.execute(delete(results).where(is_next)).rowcount, 1)
            deleted = connection.execute(delete(results).where(results.c.batch_id.in_(whole))).rowcount
            connection.execute(update(batches).where(batches.c.id.in_(whole)).values(has_results=False))
            return max(deleted, 1)


def _small_ones(uncleared: Iterable[Any], limit: int) -> list[str]:
    """Return the first of the batches, up to `limit` results in total."""
    ids = []
    for batch_id, recorded in uncleared:
        limit -= recorded
        if limit < 0:
            break
        ids.append(batch_id)
    return ids


def _pages(lengths: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield the positions in order, in pages that fit into memory."""
    page: list[int] = []
    page_bytes = 0
    for position, length in lengths:
        if page and page_bytes + length > _PAGE_BYTES:
            yield page
            page, page_bytes = [], 0
        page.append(position)
        page_bytes += length
    if page:
        yield page


def _in_order(rows: Sequence[Any], positions: Sequence[int]) -> Iterator[tuple[int, bool, bytes, Usage]]:
    found = {row[0]: row for row in rows}
    for at in positions:
        if at in found:
            position, ok, payload, *tokens = found[at]
            yield position, ok, payload, Usage(*tokens)
