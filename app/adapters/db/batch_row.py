"""Reads the rows of batches, with the rows of their sections, into batches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, select

from app.adapters.db.tables import batches, sections
from app.domain.batch import Batch, LineError, Section, Usage
from app.domain.lifecycle import Status

USAGE = tuple(field.name for field in fields(Usage))
# The columns that equal the field of the same name.
PLAIN = tuple(f.name for f in fields(Batch) if f.name not in {"usage", "errors", "status", "metadata", "sections"})
# The first columns of a section are the fields of `Section`, in their order.
SECTION = tuple(
    sections.c[name].label(f"section_{name}")
    for name in (*(name for name in Section._fields if name != "recorded"), "completed", "failed")
)


def select_batches(condition: ColumnElement[bool], *order: ColumnElement[Any]) -> Select[Any]:
    """Select batches with their sections, all as they are at one moment: counts must never go backwards."""
    joined = batches.outerjoin(sections, sections.c.batch_id == batches.c.id)
    return select(batches, *SECTION).select_from(joined).where(condition).order_by(*order, sections.c.number)


def read_batches(connection: Connection, query: Select[Any], values: dict[str, Any] | None = None) -> list[Batch]:
    """Return the batches that a statement of `select_batches` finds."""
    rows = connection.execute(query, values or {})
    return [_batch(list(of_batch)) for _, of_batch in groupby(rows, lambda row: row.seq)]


def section_of(values: Iterable[Any]) -> Section:
    """Return the section of the values of `SECTION`."""
    *places, completed, failed = values
    return Section._make((*places, completed + failed))


def _batch(rows: Sequence[Row[Any]]) -> Batch:
    values = dict(rows[0]._mapping)
    parts = [row[-len(SECTION) :] for row in rows] if rows[0].section_upstream is not None else []
    if parts:
        # Until the batch ends, its sections alone count its results.
        values["completed"] = sum(row.section_completed for row in rows)
        values["failed"] = sum(row.section_failed for row in rows)
    return as_batch(values, tuple(map(section_of, parts)))


def as_batch(values: Mapping[Any, Any], parts: tuple[Section, ...] = ()) -> Batch:
    """Return the batch of a row and its sections; the values count the batch's results."""
    return Batch(
        **{name: values[name] for name in PLAIN},
        usage=Usage(*(values[name] for name in USAGE)),
        errors=tuple(LineError(**error) for error in values["errors"] or ()),
        status=Status(values["status"]),
        metadata=values["metadata"],
        sections=parts,
    )
