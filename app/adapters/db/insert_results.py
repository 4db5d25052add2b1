"""Inserts results: every line passes here, so that the driver gets the values without SQLAlchemy's work for each."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from app.adapters.db.tables import results
from app.domain.result import Result

# A statement inserts many rows: with a statement per row the driver releases and takes Python's lock each time, which
# costs concurrent calls more than the insert itself. Few sizes only: the driver keeps every statement together with the
# values of the last run, and the values are payloads.
_ROWS_PER_INSERT = (256, 32, 4, 1)
_INTO = f"INSERT INTO {results.name} ({', '.join(results.c.keys())})"
_UNLESS_RECORDED = "ON CONFLICT DO NOTHING"
_ROW = f"({', '.join('?' * len(results.c))})"
# An array for each column, in the binary format: less than half of the CPU of a statement with a parameter a value.
_ARRAYS = "%b::int[], %b::bool[], %b::int[], %b::int[], %b::int[], %b::int[], %b::bytea[]"
_FROM_ARRAYS = f"{_INTO} SELECT %b, * FROM unnest({_ARRAYS}) {_UNLESS_RECORDED}"  # noqa: S608 - fixed names


def insert_on_sqlite(connection: Connection, batch_id: str, new: Sequence[Result]) -> int:
    """Insert the results of a batch that are not recorded yet; return the number inserted."""
    inserted = start = 0
    while start < len(new):
        count = next(size for size in _ROWS_PER_INSERT if size <= len(new) - start)
        rows = new[start : start + count]
        start += count
        values = tuple(value for result in rows for value in (batch_id, *_values(result)))
        inserted += _run(connection, f"{_INTO} VALUES {', '.join([_ROW] * count)} {_UNLESS_RECORDED}", values)
    return inserted


def insert_on_postgres(connection: Connection, batch_id: str, new: Sequence[Result]) -> int:
    """Insert the results of a batch that are not recorded yet; return the number inserted."""
    if not new:
        return 0
    columns = zip(*map(_values, new), strict=True)
    return _run(connection, _FROM_ARRAYS, (batch_id, *map(list, columns)))


def _values(result: Result) -> tuple[Any, ...]:
    """Return the values of a row without the batch's id, in the order of the table's columns."""
    used = result.usage
    return (
        result.position,
        result.ok,
        used.input_tokens,
        used.cached_tokens,
        used.output_tokens,
        used.reasoning_tokens,
        result.payload,
    )


def _run(connection: Connection, statement: str, values: tuple[Any, ...]) -> int:
    options = {"preserve_rowcount": True}
    return connection.exec_driver_sql(statement, values, execution_options=options).rowcount
