"""What has to be done for a batch, as a column with small indexes; how many lines were handed out."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_STAGE = """
CASE
    WHEN status IN ('validating', 'finalizing', 'cancelling', 'expiring') THEN status
    WHEN status = 'in_progress' THEN CASE
        WHEN completed + failed >= total THEN 'recorded'
        WHEN completed + failed < lines_dispatched AND lines_dispatched < total THEN 'sending'
        WHEN completed + failed < lines_dispatched THEN 'sent'
        WHEN lines_dispatched > 0 THEN 'idle'
        ELSE 'new' END
    WHEN status IN ('completed', 'cancelled', 'expired') AND has_results THEN 'uncleared'
END
"""
_INDEXES = {
    "ix_batches_stage_expires": ["stage", "expires_at", "seq"],
    "ix_batches_stage_way": ["stage", "tenant_id", "waiting_for", "expires_at", "seq"],
    "ix_batches_stage_newest": ["stage", "tenant_id", "waiting_for", "seq"],
}


def upgrade() -> None:
    op.add_column("batches", sa.Column("lines_dispatched", sa.Integer(), server_default="0", nullable=False))
    # Of a batch that has ended nobody asks how many were handed out.
    op.execute(
        "UPDATE batches SET waiting_for = COALESCE(waiting_for, upstream), lines_dispatched = CASE "
        "WHEN tasks_dispatched * lines_per_task < total THEN tasks_dispatched * lines_per_task ELSE total END "
        "WHERE total > 0 AND status NOT IN ('completed', 'failed', 'cancelled', 'expired')"
    )
    _count_mixed()
    # PostgreSQL has no index on what is not kept, and SQLite adds no column that is.
    is_kept = op.get_bind().dialect.name == "postgresql"
    op.add_column("batches", sa.Column("stage", sa.String(length=16), sa.Computed(_STAGE, persisted=is_kept)))
    has_stage = sa.text("stage IS NOT NULL")
    for name, columns in _INDEXES.items():
        op.create_index(name, "batches", columns, sqlite_where=has_stage, postgresql_where=has_stage)
    op.drop_index("ix_batches_status_expires", table_name="batches")


def downgrade() -> None:
    op.create_index("ix_batches_status_expires", "batches", ["status", "expires_at"])
    for name in _INDEXES:
        op.drop_index(name, table_name="batches")
    op.drop_column("batches", "stage")
    op.drop_column("batches", "lines_dispatched")
    op.execute("UPDATE batches SET waiting_for = NULL WHERE mixed IS NULL")


def _count_mixed() -> None:
    """Count what was handed out of batches for several upstreams, whose sections may each end in a short task."""
    connection = op.get_bind()
    query = "SELECT id, lines_per_task, mixed FROM batches WHERE mixed IS NOT NULL"
    for batch_id, per_task, mixed in connection.execute(sa.text(query)).all():
        sections: list[list[Any]] = json.loads(mixed) if isinstance(mixed, str) else mixed
        # Of each: the upstream, its first task and the end of its tasks, its first line and the end of its lines, the
        # next task, how many lines have a result.
        lines = sum(min((each[5] - each[1]) * per_task, each[4] - each[3]) for each in sections)
        values = {"id": batch_id, "lines": lines}
        connection.execute(sa.text("UPDATE batches SET lines_dispatched = :lines WHERE id = :id"), values)
