"""API keys have an id, a name and keyed hashes; the deployment can tell its secret."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("deployment", sa.Column("secret_check", sa.String(length=64)))
    op.rename_table("api_keys", "api_keys_before")
    keys = op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("is_keyed", sa.Boolean(), nullable=False),
        sa.Column("redacted_value", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
    )
    before = op.get_bind().execute(sa.text("SELECT key_hash, tenant_id, created_at FROM api_keys_before"))
    rows = [
        {
            "id": f"key_{secrets.token_hex(12)}",
            "tenant_id": row.tenant_id,
            "name": "from 0.1",
            "key_hash": row.key_hash,
            # `migrate` keys them: the secret is no business of the schema.
            "is_keyed": False,
            "redacted_value": "…",
            "created_at": row.created_at,
        }
        for row in before
    ]
    if rows:
        op.bulk_insert(keys, rows)
    op.drop_table("api_keys_before")


def downgrade() -> None:
    # Keyed hashes can't be turned back: the keys of before are made anew.
    op.drop_table("api_keys")
    op.create_table(
        "api_keys",
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash"),
    )
    op.drop_column("deployment", "secret_check")
