"""A database as version 0.1 left it, with a batch in every status."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.adapters.db.engine import open_engine, writing
from app.adapters.db.migrate import migrate
from app.domain.lifecycle import Status
from tests.contracts.conftest import NOW

OF_0_1 = "0003"
# The last schema with a row for each result, and with the sections of a batch in its own row.
BEFORE_SECTIONS = "0012"
# Two sections of a batch for two upstreams: 3 of 5 lines and 1 of 4 lines were handed out, by two a task.
SECTIONS = [["gpu", 0, 3, 0, 5, 2, 1], ["cpu", 3, 5, 5, 9, 3, 0]]
HASH = "a" * 64
# Random characters: PostgreSQL compresses the columns of an index.
LONG = "".join(map(chr, Random(1).choices(range(0x4E00, 0x9FFF), k=100_000)))
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def open_old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Yield an engine on an empty database of version 0.1, of the kind that the fixture is asked for."""
    is_sqlite = request.param == "sqlite"
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}" if is_sqlite else request.getfixturevalue("postgres_url"))
    migrate(engine, OF_0_1)
    yield engine
    engine.dispose()


def add(engine: Engine, table: str, **values: Any) -> None:
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    with writing(engine) as connection:
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)


def add_batch(engine: Engine, batch_id: str, status: Status, **values: Any) -> None:
    usual = {
        "tenant_id": "tenant",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-in",
        "completion_window": "24h",
        "created_at": NOW,
        "expires_at": NOW + 86_400,
        "input_blob": f"files/{batch_id}",
    }
    add(engine, "batches", id=batch_id, status=status.value, **(usual | values))


def add_result(engine: Engine, batch_id: str, position: int, *, ok: bool = True) -> None:
    tokens = dict(zip(TOKENS, (10, 1, 20, position), strict=True))
    add(engine, "results", batch_id=batch_id, position=position, ok=ok, payload=payload_of(position), **tokens)


def payload_of(position: int) -> bytes:
    return b"\x00\xff%d" % position


def arrange(engine: Engine) -> None:
    """Add what a deployment of 0.1 that was stopped amid its work may have."""
    for status in Status:
        values: dict[str, Any] = {}
        if status is not Status.VALIDATING:
            values = {"plan_blob": "plans/p", "total": 3, "lines_per_task": 2, "tasks": 2, "tasks_dispatched": 2}
            values |= {"completed": 2, "failed": 1, "has_results": True}
        if status is Status.FINALIZING:
            values |= {"lease_owner": "dead", "lease_until": NOW + 60}
        add_batch(engine, f"batch_{status}", status, **values)
    running = {"plan_blob": "plans/p", "total": 3, "lines_per_task": 2, "tasks": 2}
    add_batch(engine, "batch_new", Status.IN_PROGRESS, **running)
    add_batch(engine, "batch_sending", Status.IN_PROGRESS, **running, tasks_dispatched=1, completed=1)
    add_batch(engine, "batch_sent", Status.IN_PROGRESS, **running, tasks_dispatched=2, completed=1)
    mixed = {"mixed": json.dumps(SECTIONS), "waiting_for": "gpu,cpu", "upstream": "gpu"}
    of_mixed = {"plan_blob": "plans/m", "total": 9, "lines_per_task": 2, "tasks": 5, "tasks_dispatched": 2}
    add_batch(engine, "batch_mixed", Status.IN_PROGRESS, **mixed, **of_mixed, completed=1)
    for status in set(Status) - {Status.VALIDATING}:
        for position in range(3):
            add_result(engine, f"batch_{status}", position, ok=position < 2)
    for batch_id, position in (("batch_sending", 0), ("batch_sent", 2), ("batch_mixed", 3)):
        add_result(engine, batch_id, position)
    add(engine, "api_keys", key_hash=HASH, tenant_id="tenant", created_at=NOW)
    for key, object_id in (("made", "batch_new"), ("lost", "batch_never")):
        add(engine, "idempotency_keys", tenant_id="tenant", key=key, fingerprint="f", object_id=object_id, claimed_at=0)
