"""Forget the Idempotency-Keys of version 0.1 that stand for nothing: it stored a key before its object."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # A caller that repeats its request would be told that the object is deleted.
    op.execute(
        "DELETE FROM idempotency_keys WHERE "
        "NOT EXISTS (SELECT 1 FROM batches WHERE batches.id = idempotency_keys.object_id) AND "
        "NOT EXISTS (SELECT 1 FROM files WHERE files.id = idempotency_keys.object_id)"
    )


def downgrade() -> None:
    pass
