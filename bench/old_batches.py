"""Fill a database with as many ended batches as years of use leave behind."""

import json

from sqlalchemy import Engine, text

_AT_ONCE = 20_000
_BATCH = """
INSERT INTO batches (id, tenant_id, endpoint, input_file_id, completion_window, status, created_at, expires_at,
    metadata, input_blob, plan_blob, lines_per_task, total, completed, output_file_id, in_progress_at, finalizing_at,
    completed_at, sealed_at, finalize_tries, has_results)
VALUES (:id, 'tenant', '/v1/chat/completions', :file, '24h', :status, :at, :until, :metadata,
    :blob, :plan, 1, 5, 5, :output, :at, :at, :at, :at, 1, :has_results)
"""
_FILE = """
INSERT INTO files (id, tenant_id, purpose, filename, bytes, blob, created_at)
VALUES (:id, 'tenant', :purpose, 'in.jsonl', 1000, :blob, :at)
"""


def add_ended(engine: Engine, count: int) -> None:
    """Add `count` ended batches, with the rows of their files."""
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        with engine.begin() as connection:
            connection.execute(text(_BATCH), [_batch(number) for number in numbers])
            files = [_file(number, purpose) for number in numbers for purpose in ("batch", "batch_output")]
            connection.execute(text(_FILE), files)


def _batch(number: int) -> dict[str, object]:
    at = 1_600_000_000.0 + number
    return {
        "id": f"batch_old_{number}",
        "file": f"file-old-{number}-batch",
        "output": f"file-old-{number}-batch_output",
        "status": ("completed", "completed", "completed", "cancelled", "failed")[number % 5],
        "at": at,
        "until": at + 86_400,
        "metadata": json.dumps({"project": f"project {number % 100}", "run": str(number)}),
        "blob": f"files/old-{number}-batch",
        "plan": f"plans/old-{number}",
        # Batches that failed during finalization keep their results.
        "has_results": number % 5 == 4,
    }


def _file(number: int, purpose: str) -> dict[str, object]:
    name = f"old-{number}-{purpose}"
    return {"id": f"file-{name}", "purpose": purpose, "blob": f"files/{name}", "at": 1_600_000_000.0 + number}
