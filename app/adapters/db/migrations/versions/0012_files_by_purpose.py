"""An index of a tenant's files by their purpose: without it a list of a rare purpose reads all files of the tenant."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index("ix_files_tenant_purpose_seq", "files", ["tenant_id", "purpose", "seq"])


def downgrade() -> None:
    op.drop_index("ix_files_tenant_purpose_seq", "files")
