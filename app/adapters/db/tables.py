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
# upkeep is for one value of `stage`, by a small index: ended batches, perhaps millions, have no stage.
STAGE = """
CASE
    WHEN status = 'in_progress' AND sections_left = 0 THEN 'recorded'
    WHEN status IN ('validating', 'in_progress', 'finalizing', 'cancelling', 'expiring') THEN status
    WHEN status IN ('completed', 'cancelled', 'expired') AND has_results THEN 'uncleared'
END
"""
# The work that a section of a batch in progress needs, likewise, for the searches of dispatch and repair; none once
# each line has a result. The stage changes a few times in the life of a section, and not with each result: PostgreSQL
# rewrites a row without touching the indexes while the indexed columns keep their values.
SECTION_STAGE = """
CASE
    WHEN NOT is_sending OR completed + failed >= end_line - first_line THEN NULL
    WHEN next_task >= end_task THEN 'sent'
    WHEN completed + failed < (next_task - first_task) * lines_per_task THEN 'sending'
    WHEN next_task > first_task THEN 'idle'
    ELSE 'new'
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
    Column("api_key_id", String(64)),
    Column("metadata", JSON),
    Column("output_lifetime_s", Integer),
    Column("model", Text),
    Column("errors", JSON),
    Column("input_blob", String(255)),
    Column("plan_blob", String(255)),
    Column("plan_digest", String(32)),
    Column("lines_per_task", Integer, nullable=False, server_default="1"),
    # The sections with lines that lack a result.
    Column("sections_left", Integer, nullable=False, server_default="0"),
    Column("total", Integer, nullable=False, server_default="0"),
    # Written as the batch ends: until then its sections count its results, and `section_models` the tokens.
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
    # Set as a batch ends with results, until they are deleted.
    Column("has_results", Boolean, nullable=False, server_default=false()),
    Column("stage", String(16), Computed(STAGE, persisted=True)),
    Index("ix_batches_tenant_seq", "tenant_id", "seq"),
    Index("ix_batches_stage_expires", "stage", "expires_at", "seq", **_WITH_A_STAGE),
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

# The parts of accepted batches by upstream; the transaction that ends a batch deletes them.
sections = Table(
    "sections",
    metadata,
    Column("id", _Sequence, primary_key=True, autoincrement=True),
    Column("batch_id", String(64), nullable=False),
    # The place in the batch, 0-based.
    Column("number", Integer, nullable=False),
    # Copied from the batch; they never change.
    Column("seq", BigInteger, nullable=False),
    Column("tenant_id", String(64), nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("lines_per_task", Integer, nullable=False),
    # The number of tasks of the whole batch.
    Column("batch_tasks", Integer, nullable=False),
    Column("upstream", String(64), nullable=False),
    Column("first_task", Integer, nullable=False),
    Column("end_task", Integer, nullable=False),
    Column("first_line", Integer, nullable=False),
    Column("end_line", Integer, nullable=False),
    Column("next_task", Integer, nullable=False),
    # Tasks may be sent: the batch is in progress.
    Column("is_sending", Boolean, nullable=False),
    # Results are taken: the batch is not sealed.
    Column("is_open", Boolean, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    # A bit for each line, from the lowest of the first byte on: set once the line has a result.
    Column("recorded", LargeBinary, nullable=False),
    Column("stage", String(16), Computed(SECTION_STAGE, persisted=True)),
    Index("ix_sections_batch_number", "batch_id", "number", unique=True),
    Index("ix_sections_stage_way", "stage", "tenant_id", "upstream", "expires_at", "seq", **_WITH_A_STAGE),
    Index("ix_sections_stage_newest", "stage", "tenant_id", "upstream", "seq", **_WITH_A_STAGE),
)

# The results that one commit brought for a section, the payloads one behind the other; PostgreSQL does not compress
# them.
segments = Table(
    "segments",
    metadata,
    # Grows with each segment of a section: the order of recording.
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("batch_id", String(64), nullable=False),
    # The number of the section.
    Column("section", Integer, nullable=False),
    # An entry of fixed width for each result, as `app.adapters.db.segments` packs it.
    Column("lines", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_segments_batch_seq", "batch_id", "seq"),
)

# Results and tokens of a batch by model; a model belongs to one upstream. The rows outlive the sections.
section_models = Table(
    "section_models",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("upstream", String(64), primary_key=True),
    # Empty for lines that name no model.
    Column("model", Text, primary_key=True),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
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
