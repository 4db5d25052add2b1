"""Reads the row of a batch into a `Batch`."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from sqlalchemy import Row

from app.domain.batch import Batch, LineError, Section, Usage
from app.domain.lifecycle import Status

# The columns that equal the field of the same name.
PLAIN = tuple(f.name for f in fields(Batch) if f.name not in {"usage", "errors", "status", "metadata", "mixed"})
_USAGE = tuple(field.name for field in fields(Usage))


def as_batch(row: Row[Any]) -> Batch:
    """Return the batch of a row."""
    values = row._mapping
    return Batch(
        **{name: values[name] for name in PLAIN},
        usage=Usage(*(values[name] for name in _USAGE)),
        errors=tuple(LineError(**error) for error in values["errors"] or ()),
        status=Status(values["status"]),
        metadata=values["metadata"],
        mixed=tuple(Section(*section) for section in values["mixed"] or ()),
    )


def as_batches(rows: Iterable[Row[Any]]) -> list[Batch]:
    """Return the batches of the rows."""
    return [as_batch(row) for row in rows]
