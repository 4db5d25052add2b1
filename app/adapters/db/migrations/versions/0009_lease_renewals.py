"""A lease counts its renewals instead of naming the instant of its end; its holder's name has room for a process."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    # Whoever held a lease ended with the version before.
    op.drop_column("batches", "lease_owner")
    op.drop_column("batches", "lease_until")
    op.add_column("batches", sa.Column("lease_owner", sa.String(length=128), nullable=True))
    op.add_column("batches", sa.Column("lease_renewals", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("batches", "lease_renewals")
    op.drop_column("batches", "lease_owner")
    op.add_column("batches", sa.Column("lease_until", sa.Double(), nullable=True))
    op.add_column("batches", sa.Column("lease_owner", sa.String(length=64), nullable=True))
