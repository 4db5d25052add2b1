"""The deployment's identity, and a digest of each batch's plan."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    deployment = op.create_table(
        "deployment",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("storage", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    # 20 hex digits: fit for a key of Redis, the name of a queue and a file.
    op.bulk_insert(deployment, [{"id": secrets.token_hex(10), "storage": None}])
    # Plans of batches that run already have none.
    op.add_column("batches", sa.Column("plan_digest", sa.String(length=32)))


def downgrade() -> None:
    op.drop_column("batches", "plan_digest")
    op.drop_table("deployment")
