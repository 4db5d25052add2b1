"""Sections of batches as rows, results in segments, counts by model; the key that made a batch."""

import json
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_BATCH_STAGE_BEFORE = """
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
_BATCH_STAGE = """
CASE
    WHEN status = 'in_progress' AND sections_left = 0 THEN 'recorded'
    WHEN status IN ('validating', 'in_progress', 'finalizing', 'cancelling', 'expiring') THEN status
    WHEN status IN ('completed', 'cancelled', 'expired') AND has_results THEN 'uncleared'
END
"""
_SECTION_STAGE = """
CASE
    WHEN NOT is_sending OR completed + failed >= end_line - first_line THEN NULL
    WHEN next_task >= end_task THEN 'sent'
    WHEN completed + failed < (next_task - first_task) * lines_per_task THEN 'sending'
    WHEN next_task > first_task THEN 'idle'
    ELSE 'new'
END
"""
_EXPIRES = {"ix_batches_stage_expires": ["stage", "expires_at", "seq"]}
_WAYS_BEFORE = {
    "ix_batches_stage_way": ["stage", "tenant_id", "waiting_for", "expires_at", "seq"],
    "ix_batches_stage_newest": ["stage", "tenant_id", "waiting_for", "seq"],
}
_SECTION_WAYS = {
    "ix_sections_stage_way": ["stage", "tenant_id", "upstream", "expires_at", "seq"],
    "ix_sections_stage_newest": ["stage", "tenant_id", "upstream", "seq"],
}
# position (u32), ok (u8), length of the payload (u32), and the four counts of tokens (u32)
_LINE = Struct("<IBI4I")
_SEGMENT_BYTES = 16 * 1024
_SEGMENT_LINES = 1_000
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
# The largest count that an entry of a line holds, and the longest name of a model that every index holds.
_MOST_TOKENS = 2**32 - 1
_MOST_MODEL_CHARS = 512
_UNWRITTEN = "SELECT id FROM batches WHERE coalesce(stage, '') <> 'uncleared'"
_HAS_RESULTS = "EXISTS (SELECT 1 FROM results WHERE results.batch_id = batches.id)"
_RUNNING = "status IN ('in_progress', 'finalizing', 'cancelling', 'expiring') AND total > 0"


def upgrade() -> None:
    _create_tables()
    op.add_column("batches", sa.Column("api_key_id", sa.String(length=64)))
    op.add_column("batches", sa.Column("sections_left", sa.Integer(), server_default="0", nullable=False))
    for batch in _rows(f"SELECT * FROM batches WHERE {_RUNNING}"):  # noqa: S608 - fixed names
        _add_sections(batch)
    for (batch_id,) in _rows(f"{_UNWRITTEN} AND {_HAS_RESULTS}"):
        _pack(batch_id)
    # The files of these batches have all results: the results go with the table.
    _run("UPDATE batches SET has_results = :no WHERE has_results AND stage = 'uncleared'", no=False)
    is_left = "s.batch_id = batches.id AND s.completed + s.failed < s.end_line - s.first_line"
    left = f"SELECT count(*) FROM sections AS s WHERE {is_left}"  # noqa: S608 - fixed names
    counts = f"completed = 0, failed = 0, has_results = :no, sections_left = ({left})"
    _run(f"UPDATE batches SET {counts} WHERE {_RUNNING}", no=False)  # noqa: S608 - fixed names
    op.drop_table("results")
    _change_stage(_BATCH_STAGE, [*_EXPIRES, *_WAYS_BEFORE], _EXPIRES)
    for name in ("tasks", "tasks_dispatched", "lines_dispatched", "upstream", "mixed", "waiting_for"):
        op.drop_column("batches", name)


def downgrade() -> None:
    for column in (
        sa.Column("tasks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tasks_dispatched", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lines_dispatched", sa.Integer(), server_default="0", nullable=False),
        sa.Column("upstream", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("mixed", sa.JSON(none_as_null=True)),
        sa.Column("waiting_for", sa.Text()),
    ):
        op.add_column("batches", column)
    op.create_table(
        "results",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _TOKENS),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "position"),
    )
    for (seq,) in _rows(f"SELECT seq FROM segments WHERE batch_id IN ({_UNWRITTEN})"):  # noqa: S608 - fixed names
        _unpack(seq)
    _run("UPDATE batches SET has_results = :no WHERE has_results AND stage = 'uncleared'", no=False)
    for batch_id, per_task, total in _rows(
        "SELECT id, lines_per_task, total FROM batches WHERE id IN (SELECT batch_id FROM sections)"
    ):
        _fold_sections(batch_id, per_task, total)
    _change_stage(_BATCH_STAGE_BEFORE, _EXPIRES, {**_EXPIRES, **_WAYS_BEFORE})
    op.drop_column("batches", "sections_left")
    op.drop_column("batches", "api_key_id")
    for name in ("section_models", "segments", "sections"):
        op.drop_table(name)


def _create_tables() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "sections",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("lines_per_task", sa.Integer(), nullable=False),
        sa.Column("batch_tasks", sa.Integer(), nullable=False),
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("first_task", sa.Integer(), nullable=False),
        sa.Column("end_task", sa.Integer(), nullable=False),
        sa.Column("first_line", sa.Integer(), nullable=False),
        sa.Column("end_line", sa.Integer(), nullable=False),
        sa.Column("next_task", sa.Integer(), nullable=False),
        sa.Column("is_sending", sa.Boolean(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("recorded", sa.LargeBinary(), nullable=False),
        sa.Column("stage", sa.String(length=16), sa.Computed(_SECTION_STAGE, persisted=True)),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sections_batch_number", "sections", ["batch_id", "number"], unique=True)
    _index("sections", _SECTION_WAYS)
    op.create_table(
        "segments",
        sa.Column("seq", number, autoincrement=True, nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("section", sa.Integer(), nullable=False),
        sa.Column("lines", sa.LargeBinary(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_segments_batch_seq", "segments", ["batch_id", "seq"])
    op.create_table(
        "section_models",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _TOKENS),
        sa.PrimaryKeyConstraint("batch_id", "upstream", "model"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Parts of a payload that is not compressed can be read by themselves, and compressing costs much CPU.
        for name in ("lines", "payload"):
            op.execute(f"ALTER TABLE segments ALTER COLUMN {name} SET STORAGE EXTERNAL")


def _change_stage(stage: str, before: Sequence[str] | dict[str, Any], after: dict[str, list[str]]) -> None:
    for name in before:
        op.drop_index(name, table_name="batches")
    op.drop_column("batches", "stage")
    # PostgreSQL has no index on what is not kept, and SQLite adds no column that is.
    is_kept = op.get_bind().dialect.name == "postgresql"
    op.add_column("batches", sa.Column("stage", sa.String(length=16), sa.Computed(stage, persisted=is_kept)))
    _index("batches", after)


def _index(table: str, indexes: dict[str, list[str]]) -> None:
    has_stage = sa.text("stage IS NOT NULL")
    for name, columns in indexes.items():
        op.create_index(name, table, columns, sqlite_where=has_stage, postgresql_where=has_stage)


def _add_sections(batch: Any) -> None:
    parts = json.loads(batch.mixed) if isinstance(batch.mixed, str) else batch.mixed
    # The upstream, the first task and the end of the tasks, the first line and the end of the lines, the next task.
    whole = [batch.upstream, 0, batch.tasks, 0, batch.total, batch.tasks_dispatched]
    for number, part in enumerate(parts or [whole]):
        upstream, first_task, end_task, first_line, end_line, next_task, *_ = part
        _insert(
            "sections",
            batch_id=batch.id,
            number=number,
            seq=batch.seq,
            tenant_id=batch.tenant_id,
            expires_at=batch.expires_at,
            lines_per_task=batch.lines_per_task,
            batch_tasks=batch.tasks,
            upstream=upstream,
            first_task=first_task,
            end_task=end_task,
            first_line=first_line,
            end_line=end_line,
            next_task=next_task,
            is_sending=batch.status == "in_progress",
            is_open=batch.status != "finalizing" and batch.sealed_at is None,
            **dict.fromkeys(("completed", "failed"), 0),
            recorded=bytes(-(-(end_line - first_line) // 8)),
        )


def _pack(batch_id: str) -> None:
    """Pack the results of a batch into segments, and count them in the sections; a batch that failed has none."""
    model = op.get_bind().scalar(sa.text("SELECT model FROM batches WHERE id = :id"), {"id": batch_id})
    if not model or len(model) > _MOST_MODEL_CHARS or "\0" in model:
        model = "other"
    parts = _rows("SELECT * FROM sections WHERE batch_id = :id ORDER BY number", id=batch_id)
    end = 2**31 - 1
    for part in parts or [None]:
        number, first, end_line = (part.number, part.first_line, part.end_line) if part is not None else (0, 0, end)
        bits = bytearray(part.recorded if part is not None else b"")
        sums = [0] * 6
        for some in _pages(batch_id, first, end_line):
            lines = b"".join(_LINE.pack(row.position, row.ok, len(row.payload), *_tokens(row)) for row in some)
            payload = b"".join(row.payload for row in some)
            _insert("segments", batch_id=batch_id, section=number, lines=lines, payload=payload)
            for row in some:
                sums = [sum(pair) for pair in zip(sums, (row.ok, not row.ok, *_tokens(row)), strict=True)]
                if part is not None:
                    bits[(row.position - first) // 8] |= 1 << (row.position - first) % 8
        if part is not None and sums[0] + sums[1]:
            counts = {"completed": sums[0], "failed": sums[1]}
            assigned = "recorded = :bits, completed = :completed, failed = :failed"
            _run(f"UPDATE sections SET {assigned} WHERE id = :id", bits=bytes(bits), id=part.id, **counts)  # noqa: S608 - fixed names
            tokens = dict(zip(_TOKENS, sums[2:], strict=True))
            _insert("section_models", batch_id=batch_id, upstream=part.upstream, model=model, **counts, **tokens)


def _tokens(row: Any) -> list[int]:
    return [min(max(getattr(row, name), 0), _MOST_TOKENS) for name in _TOKENS]


def _pages(batch_id: str, first: int, end: int) -> Iterator[Sequence[Any]]:
    """Yield the results of lines in [first, end), as many at a time as a segment holds."""
    of_span = "FROM results WHERE batch_id = :id AND position >= :first AND position < :end ORDER BY position"
    lengths = _rows(f"SELECT position, length(payload) {of_span}", id=batch_id, first=first, end=end)
    start = size = count = 0
    for number, (_, length) in enumerate([*lengths, (0, 2 * _SEGMENT_BYTES)]):
        if count and (size + length > _SEGMENT_BYTES or count == _SEGMENT_LINES):
            span = {"first": lengths[start][0], "end": lengths[number - 1][0] + 1}
            yield _rows(f"SELECT position, ok, {', '.join(_TOKENS)}, payload {of_span}", id=batch_id, **span)
            start, size, count = number, 0, 0
        size, count = size + length, count + 1


def _unpack(seq: int) -> None:
    row = op.get_bind().execute(sa.text("SELECT batch_id, lines, payload FROM segments WHERE seq = :seq"), {"seq": seq})
    batch_id, lines, payload = row.one()
    start = 0
    for position, ok, length, *tokens in _LINE.iter_unpack(lines):
        values = {"batch_id": batch_id, "position": position, "ok": bool(ok), **dict(zip(_TOKENS, tokens, strict=True))}
        _insert("results", **values, payload=payload[start : start + length])
        start += length


def _fold_sections(batch_id: str, per_task: int, total: int) -> None:
    parts = _rows("SELECT * FROM sections WHERE batch_id = :id ORDER BY number", id=batch_id)
    names = ("upstream", "first_task", "end_task", "first_line", "end_line", "next_task")
    folded = [[*(getattr(part, name) for name in names), part.completed + part.failed] for part in parts]
    values = {
        "tasks": parts[-1].end_task,
        "tasks_dispatched": sum(part.next_task - part.first_task for part in parts),
        "lines_dispatched": sum(
            min((part.next_task - part.first_task) * per_task, part.end_line - part.first_line) for part in parts
        ),
        "upstream": parts[0].upstream,
        "mixed": json.dumps(folded) if len(parts) > 1 else None,
        "waiting_for": ",".join(sorted(p.upstream for p in parts if p.next_task < p.end_task or len(parts) == 1)),
        "completed": sum(part.completed for part in parts),
        "failed": sum(part.failed for part in parts),
        "has_results": any(part.completed + part.failed for part in parts),
    }
    assigned = ", ".join(f"{name} = :{name}" for name in values)
    _run(f"UPDATE batches SET {assigned} WHERE id = :id", id=batch_id, **values)  # noqa: S608 - fixed names


def _rows(query: str, **values: Any) -> Sequence[Any]:
    return op.get_bind().execute(sa.text(query), values).all()


def _run(statement: str, **values: Any) -> None:
    op.get_bind().execute(sa.text(statement), values)


def _insert(table: str, **values: Any) -> None:
    names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    _run(f"INSERT INTO {table} ({names}) VALUES ({marks})", **values)  # noqa: S608 - fixed names
