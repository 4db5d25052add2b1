"""Where the lines of a batch go."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # What runs already goes to the one upstream there was.
    op.add_column("batches", sa.Column("upstream", sa.String(length=64), server_default="default", nullable=False))
    op.add_column("batches", sa.Column("mixed", sa.JSON(none_as_null=True)))
    op.add_column("batches", sa.Column("waiting_for", sa.Text()))
    op.add_column("batches", sa.Column("tasks", sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE batches SET tasks = (total + lines_per_task - 1) / lines_per_task WHERE total > 0")


def downgrade() -> None:
    op.drop_column("batches", "tasks")
    op.drop_column("batches", "waiting_for")
    op.drop_column("batches", "mixed")
    op.drop_column("batches", "upstream")
