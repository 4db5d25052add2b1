"""Results in the database: each line's once, counted in the transaction that inserts it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, and_, bindparam, delete, func, select, update

from app.adapters.db.batch_store import is_recording
from app.adapters.db.engine import reading, writing
from app.adapters.db.tables import batches, results
from app.domain.batch import Usage
from app.domain.lifecycle import TERMINAL, Status
from app.domain.result import Result
from app.services.ports import Progress

# Payloads are a few kB as a rule: some megabytes are in memory at once.
_PAGE_ROWS = 250

# One statement for many rows: a statement for each has the driver give up and take back Python's lock each time, which
# costs the calls that go on beside it more than the insert itself. In a few sizes only: the driver keeps each statement
# together with the values it was last run with, which are payloads.
_ROWS_PER_INSERT = (256, 32, 4, 1)

# Built once: putting a statement together costs more than running it.
_LOCK = select(batches.c.id).where(batches.c.id == bindparam("id"), is_recording()).with_for_update()
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
        batches.c.tasks_dispatched * batches.c.lines_per_task,
    )
)
_RESULTS = select(
    results.c.position,
    results.c.ok,
    results.c.payload,
    results.c.input_tokens,
    results.c.cached_tokens,
    results.c.output_tokens,
    results.c.reasoning_tokens,
).where(results.c.batch_id == bindparam("id"))
_NEXT_RESULTS = _RESULTS.where(results.c.position > bindparam("last")).order_by(results.c.position).limit(_PAGE_ROWS)
_RESULTS_AT = _RESULTS.where(results.c.position.in_(bindparam("positions", expanding=True)))


class SqlResultStore:
    """`ResultStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Handed to the driver as text: SQLAlchemy's own work for each row is four times the driver's, and this runs
        # for every line there is.
        mark = "?" if engine.dialect.name == "sqlite" else "%s"
        self._insert = f"INSERT INTO {results.name} ({', '.join(results.c.keys())}) VALUES "  # noqa: S608 - fixed names
        self._row = f"({', '.join([mark] * len(results.c))})"

    def record(self, results: Sequence[Result]) -> list[Progress]:
        by_batch: dict[str, list[Result]] = defaultdict(list)
        for result in results:
            by_batch[result.batch_id].append(result)
        with writing(self._engine) as connection:
            # In one order everywhere, so that two writers never wait for each other's batch.
            recorded = [self._record(connection, batch_id, by_batch[batch_id]) for batch_id in sorted(by_batch)]
        return [progress for progress in recorded if progress is not None]

    def _record(self, connection: Connection, batch_id: str, new: list[Result]) -> Progress | None:
        if connection.execute(_LOCK, {"id": batch_id}).one_or_none() is None:
            return None
        completed = self._insert_new(connection, [result for result in new if result.ok])
        failed = self._insert_new(connection, [result for result in new if not result.ok])
        row = connection.execute(_COUNT, {"id_": batch_id, "new_completed": completed, "new_failed": failed}).one()
        total, recorded, dispatched = row
        return Progress(batch_id, dispatched >= total, recorded >= total, max(min(dispatched, total) - recorded, 0))

    def _insert_new(self, connection: Connection, new: list[Result]) -> int:
        inserted = start = 0
        while start < len(new):
            count = next(size for size in _ROWS_PER_INSERT if size <= len(new) - start)
            rows = new[start : start + count]
            start += count
            # In the order of the table's columns.
            values = [
                value
                for batch_id, position, ok, payload, used in rows
                for value in (
                    batch_id,
                    position,
                    ok,
                    used.input_tokens,
                    used.cached_tokens,
                    used.output_tokens,
                    used.reasoning_tokens,
                    payload,
                )
            ]
            text = f"{self._insert}{', '.join([self._row] * count)} ON CONFLICT DO NOTHING"
            options = {"preserve_rowcount": True}
            inserted += connection.exec_driver_sql(text, tuple(values), execution_options=options).rowcount
        return inserted

    def recorded(self, batch_id: str, first: int, end: int) -> set[int]:
        query = select(results.c.position).where(
            results.c.batch_id == batch_id, results.c.position >= first, results.c.position < end
        )
        with reading(self._engine) as connection:
            return set(connection.scalars(query))

    def counts_by_task(self, batch_id: str, lines_per_task: int) -> dict[int, int]:
        # Both databases divide whole numbers to whole numbers; SQLAlchemy's own `/` would make a fraction of it.
        number = results.c.position.op("/")(lines_per_task).label("number")
        query = select(number, func.count()).where(results.c.batch_id == batch_id).group_by(number)
        with reading(self._engine) as connection:
            return {int(row[0]): row[1] for row in connection.execute(query)}

    def read(self, batch_id: str) -> Iterator[tuple[int, bool, bytes, Usage]]:
        last = -1
        while True:
            page = self._page(batch_id, last)
            if not page:
                return
            for position, ok, payload, *tokens in page:
                yield position, ok, payload, Usage(*tokens)
            last = page[-1][0]

    def read_in(self, batch_id: str, order: Sequence[int]) -> Iterator[tuple[int, bool, bytes, Usage]]:
        for start in range(0, len(order), _PAGE_ROWS):
            positions = order[start : start + _PAGE_ROWS]
            with reading(self._engine) as connection:
                found = connection.execute(_RESULTS_AT, {"id": batch_id, "positions": positions}).all()
            rows = {row[0]: row for row in found}
            for position in positions:
                if position in rows:
                    _, ok, payload, *tokens = rows[position]
                    yield position, ok, payload, Usage(*tokens)

    def _page(self, batch_id: str, last: int) -> Sequence[Any]:
        with reading(self._engine) as connection:
            return connection.execute(_NEXT_RESULTS, {"id": batch_id, "last": last}).all()

    def clear(self, limit: int) -> int:
        is_over = and_(
            batches.c.has_results,
            batches.c.status.in_(sorted(TERMINAL - {Status.FAILED})),
        )
        with writing(self._engine) as connection:
            batch_id = connection.scalar(select(batches.c.id).where(is_over).order_by(batches.c.seq).limit(1))
            if batch_id is None:
                return 0
            low = connection.scalar(select(func.min(results.c.position)).where(results.c.batch_id == batch_id))
            if low is None:
                connection.execute(update(batches).where(batches.c.id == batch_id).values(has_results=False))
                return 1
            deleted = connection.execute(
                delete(results).where(results.c.batch_id == batch_id, results.c.position < low + limit)
            )
            return deleted.rowcount
