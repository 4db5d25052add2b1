"""A row that readiness writes, to see whether the database takes a write."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    probes = op.create_table(
        "probes",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("written_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(probes, [{"id": 1, "written_at": 0.0}])


def downgrade() -> None:
    op.drop_table("probes")
