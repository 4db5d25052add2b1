"""The rows of the sections of a batch: made as the batch is accepted, closed and deleted as the batch ends.

Every transaction locks the sections of a batch before the batch's own row, and sections by their batch and number: no
two transactions wait for each other. A transaction that finds the batch accepted after it looked for sections has the
batch's row and lacks the sections: it ends, and a new transaction begins.
"""

from typing import Any, NamedTuple

from sqlalchemy import Boolean, Connection, Row, and_, bindparam, delete, func, insert, select, update

from app.adapters.db.batch_row import USAGE
from app.adapters.db.tables import section_models, sections
from app.domain.batch import Section
from app.domain.lifecycle import RECORDING, TERMINAL, Status

_OF_BATCH = sections.c.batch_id == bindparam("of_batch")
_LOCK = select(sections.c.completed, sections.c.failed).where(_OF_BATCH).order_by(sections.c.number).with_for_update()
_ADD = insert(sections)
_TAKES_RESULTS = bindparam("takes_results", type_=Boolean())
_FOLLOW = (
    update(sections)
    .where(_OF_BATCH)
    .values(is_sending=bindparam("sends"), is_open=and_(sections.c.is_open, _TAKES_RESULTS))
)
_DELETE = delete(sections).where(_OF_BATCH)
_SUMS = select(*(func.coalesce(func.sum(section_models.c[name]), 0).label(name) for name in USAGE)).where(
    section_models.c.batch_id == bindparam("of_batch")
)


class Locked(NamedTuple):
    """The locked sections of a batch: their number, and the lines that they count."""

    sections: int
    completed: int
    failed: int


def add_sections(connection: Connection, batch: Row[Any], parts: tuple[Section, ...], lines_per_task: int) -> None:
    """Insert the sections of a batch that is accepted by this transaction, given the batch's row."""
    copied = {"batch_id": batch.id, "seq": batch.seq, "tenant_id": batch.tenant_id, "expires_at": batch.expires_at}
    rows = [
        {
            **copied,
            **section._asdict(),
            "number": number,
            "lines_per_task": lines_per_task,
            "batch_tasks": parts[-1].end_task,
            "is_sending": True,
            "is_open": True,
            "completed": 0,
            "failed": 0,
            "recorded": bytes(-(-(section.end_line - section.first_line) // 8)),
        }
        for number, section in enumerate(parts)
    ]
    connection.execute(_ADD, rows)


def lock_sections(connection: Connection, batch_id: str) -> Locked:
    """Keep other writers off the sections until the transaction ends."""
    rows = connection.execute(_LOCK, {"of_batch": batch_id}).all()
    return Locked(len(rows), sum(row.completed for row in rows), sum(row.failed for row in rows))


def close_sections(connection: Connection, batch_id: str) -> None:
    """Take no result from now on."""
    connection.execute(_FOLLOW, {"of_batch": batch_id, "sends": False, "takes_results": False})


def read_totals(connection: Connection, batch_id: str, locked: Locked) -> dict[str, Any]:
    """Return what the row of a batch is to say from its end on, given the batch's locked sections."""
    used = connection.execute(_SUMS, {"of_batch": batch_id}).one()._asdict()
    has_results = locked.completed + locked.failed > 0
    return {**used, "completed": locked.completed, "failed": locked.failed, "has_results": has_results}


def follow_batch(connection: Connection, batch_id: str, status: Status) -> None:
    """Have the locked sections follow their batch to `status`; an ended batch has none."""
    if status in TERMINAL:
        connection.execute(_DELETE, {"of_batch": batch_id})
        return
    values = {"sends": status is Status.IN_PROGRESS, "takes_results": status in RECORDING}
    connection.execute(_FOLLOW, {"of_batch": batch_id, **values})
