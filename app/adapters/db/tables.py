"""The tables. Instants are seconds since 1970, UTC."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData()

# SQLite counts up by itself only in a column declared as INTEGER to the letter.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

deployment = Table(
    "deployment",
    metadata,
    # Made by the migration: the table has this single row for as long as the database lives.
    Column("id", String(32), primary_key=True),
    # The id in the marker of the storage; null until `migrate` has marked a storage.
    Column("storage", String(32)),
    # Tells the secret of the key hashes from any other secret; null until a secret was made.
    Column("secret_check", String(64)),
)

# A single row, made by a migration and written by the readiness check: only a write shows that the database accepts
# writes.
probes = Table(
    "probes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("written_at", Double, nullable=False),
)

# The number of ticks done of each kind, and control's clock at the last write.
ticks = Table(
    "ticks",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("done", BigInteger, nullable=False),
    Column("clock", Double, nullable=False),
)

# The work that a batch needs, computed by the database from the columns with the batch's progress. Each search of
# upkeep and dispatch is for one value of `stage`, by a small index: ended batches, perhaps millions, have no stage. The
# stage changes a few times in the life of a batch, and not with each result: PostgreSQL rewrites a row without touching
# the indexes while the indexed columns keep their values.
STAGE = """
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
_HAS_STAGE = text("stage IS NOT NULL")
_WITH_A_STAGE: dict[str, Any] = {"sqlite_where": _HAS_STAGE, "postgresql_where": _HAS_STAGE}

batches = Table(
    "batches",
    metadata,
    # Grows with each batch: the order of the list, which instants alone would not settle.
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("tenant_id", String(64), nullable=False),
    Column("endpoint", String(255), nullable=False),
    Column("input_file_id", String(64), nullable=False),
    Column("completion_window", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("metadata", JSON),
    Column("output_lifetime_s", Integer),
    Column("model", Text),
    Column("errors", JSON),
    Column("input_blob", String(255)),
    Column("plan_blob", String(255)),
    Column("plan_digest", String(32)),
    Column("lines_per_task", Integer, nullable=False, server_default="1"),
    Column("tasks", Integer, nullable=False, server_default="0"),
    Column("tasks_dispatched", Integer, nullable=False, server_default="0"),
    # The lines of the tasks handed out.
    Column("lines_dispatched", Integer, nullable=False, server_default="0"),
    Column("upstream", String(64), nullable=False, server_default="default"),
    # For a batch with several upstreams: the `Section` of each upstream, as a list.
    Column("mixed", JSON(none_as_null=True)),
    # The upstreams of the lines never handed out, set once the batch is in progress.
    Column("waiting_for", Text),
    Column("total", Integer, nullable=False, server_default="0"),
    Column("completed", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cached_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("reasoning_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("in_progress_at", Double),
    Column("finalizing_at", Double),
    Column("completed_at", Double),
    Column("failed_at", Double),
    Column("expired_at", Double),
    Column("cancelling_at", Double),
    Column("cancelled_at", Double),
    Column("sealed_at", Double),
    Column("finalize_tries", Integer, nullable=False, server_default="0"),
    # The token of the process that validates or finalizes the batch, and the number of times the holder renewed the
    # lease.
    Column("lease_owner", String(128)),
    Column("lease_renewals", Integer, server_default="0", nullable=False),
    # Set until the results of a finished batch are deleted.
    Column("has_results", Boolean, nullable=False, server_default=false()),
    Column("stage", String(16), Computed(STAGE, persisted=True)),
    Index("ix_batches_tenant_seq", "tenant_id", "seq"),
    Index("ix_batches_stage_expires", "stage", "expires_at", "seq", **_WITH_A_STAGE),
    Index("ix_batches_stage_way", "stage", "tenant_id", "waiting_for", "expires_at", "seq", **_WITH_A_STAGE),
    Index("ix_batches_stage_newest", "stage", "tenant_id", "waiting_for", "seq", **_WITH_A_STAGE),
    Index("ix_batches_input_blob", "input_blob"),
)

files = Table(
    "files",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("tenant_id", String(64), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("blob", String(255), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("deleted_at", Double),
    Index("ix_files_tenant_seq", "tenant_id", "seq"),
    Index("ix_files_tenant_purpose_seq", "tenant_id", "purpose", "seq"),
    Index("ix_files_expires", "expires_at"),
    Index("ix_files_deleted", "deleted_at"),
)

results = Table(
    "results",
    metadata,
    # The key makes sure that a result is recorded once.
    Column("batch_id", String(64), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("ok", Boolean, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

unanswered_tries = Table(
    "unanswered_tries",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    # How often the line was called without a result, and the outcome of the last call.
    Column("tries", Integer, nullable=False),
    Column("met", Text, nullable=False),
)

trials = Table(
    "trials",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    # How often the line was begun since the line last came to an end.
    Column("begun", Integer, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant_id", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    # The HMAC of the key's SHA-256; the SHA-256 itself in rows of 0.1 until `migrate` has converted the rows.
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("is_keyed", Boolean, nullable=False),
    Column("redacted_value", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", String(64), primary_key=True),
    Column("key", String(512), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("object_id", String(64), nullable=False),
    Column("claimed_at", Double, nullable=False),
    Index("ix_idempotency_claimed", "claimed_at"),
)
