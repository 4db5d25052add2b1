"""Each port's fake and its real twins, to run the same tests on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app.adapters.db.api_key_store import SqlKeyStore
from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.key_store import SqlIdempotencyStore
from app.adapters.db.migrate import migrate
from app.adapters.db.result_store import SqlResultStore
from app.adapters.db.tick_store import SqlTickStore
from app.adapters.db.trial_store import SqlTrialStore
from app.domain.batch import Batch
from app.domain.file import File
from app.domain.lifecycle import Event, Status
from app.domain.result import NO_USAGE, Result
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import (
    BatchStore,
    Blobs,
    Claim,
    FileStore,
    IdempotencyStore,
    KeyStore,
    Planned,
    ResultStore,
    TickStore,
    TrialStore,
)
from tests.contracts.storage import mark, open_blobs
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore, MemoryKeyStore
from tests.fakes.outside import MemoryBlobs
from tests.fakes.results import MemoryResultStore
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore
from tests.fakes.ticks import MemoryTickStore
from tests.fakes.trials import MemoryTrialStore

NOW = 1_700_000_000.0
# At 50 lines a task the second one of each is short, and they are more tasks than as many lines for one upstream.
FIFTY_ONE_EACH = {"gpu": 51, "cpu": 51}


@dataclass
class Stores:
    """The stores over one database, and the short cuts that tests arrange with."""

    files: FileStore
    batches: BatchStore
    results: ResultStore
    trials: TrialStore
    ticks: TickStore
    keys: KeyStore
    idempotency: IdempotencyStore

    def add_batch(
        self, batch_id: str = "batch_1", input_at: float | None = None, claim: Claim | None = None, **fields: object
    ) -> Batch:
        values: dict[str, Any] = {
            "tenant_id": "tenant",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-in",
            "completion_window": "24h",
            "status": Status.VALIDATING,
            "created_at": NOW,
            "expires_at": NOW + 86_400,
            "input_blob": f"files/{batch_id}",
        }
        batch = Batch(id=batch_id, **(values | fields))
        self.batches.add(batch, input_at=input_at, claim=claim)
        return batch

    def add_running(self, batch_id: str = "batch_1", total: int = 3, **fields: object) -> Batch:
        self.add_batch(batch_id, **fields)
        return self.batches.accept(batch_id, planned(total, plan_blob=f"plans/{batch_id}"), NOW + 1)

    def add_mixed(
        self, batch_id: str = "batch_1", lines: Mapping[str, int] = FIFTY_ONE_EACH, per_task: int = 50, **fields: object
    ) -> Batch:
        """Add a running batch with so many lines for each of these upstreams."""
        self.add_batch(batch_id, **fields)
        return self.batches.accept(batch_id, Planned(f"plans/{batch_id}", per_task, [*lines.items()], None), NOW + 1)

    def add_recorded(self, batch_id: str = "batch_1", total: int = 3) -> None:
        self.add_running(batch_id, total)
        self.results.record([result(position, batch_id=batch_id) for position in range(total)])

    def add_in(self, status: Status, batch_id: str = "batch_1") -> None:
        """Lead a batch with every line recorded to `status` by the events that callers would send."""
        if status in (Status.VALIDATING, Status.FAILED):
            self.add_batch(batch_id)
        else:
            self.add_recorded(batch_id)
        for event in _WAYS[status]:
            self.batches.advance(batch_id, event, NOW + 2)

    def add_file(self, file_id: str = "file-1", claim: Claim | None = None, **fields: object) -> File:
        values: dict[str, Any] = {
            "tenant_id": "tenant",
            "purpose": "batch",
            "filename": "in.jsonl",
            "bytes": 10,
            "blob": f"files/{file_id}",
            "created_at": NOW,
        }
        file = File(id=file_id, **(values | fields))
        self.files.add(file, claim)
        return file


_WAYS: dict[Status, tuple[Event, ...]] = {
    Status.VALIDATING: (),
    Status.FAILED: (Event.REJECTED,),
    Status.IN_PROGRESS: (),
    Status.FINALIZING: (Event.ALL_RECORDED,),
    Status.CANCELLING: (Event.CANCEL_REQUESTED,),
    Status.EXPIRING: (Event.WINDOW_ELAPSED,),
    Status.COMPLETED: (Event.ALL_RECORDED, Event.FILES_WRITTEN),
    Status.CANCELLED: (Event.CANCEL_REQUESTED, Event.FILES_WRITTEN),
    Status.EXPIRED: (Event.WINDOW_ELAPSED, Event.FILES_WRITTEN),
}


def planned(
    total: int,
    upstream: str = DEFAULT_UPSTREAM,
    *,
    per_task: int = 2,
    model: str | None = "small",
    plan_blob: str = "plans/p",
) -> Planned:
    """Return the findings of validation for a batch with all its lines for one upstream."""
    return Planned(plan_blob, per_task, [(upstream, total)], model)


def result(position: int, *, batch_id: str = "batch_1", ok: bool = True, payload: bytes = b"{}") -> Result:
    return Result(batch_id, position, ok, payload, NO_USAGE)


def stores_over(engine: Engine) -> Stores:
    """Return all stores over this database."""
    return Stores(
        SqlFileStore(engine),
        SqlBatchStore(engine),
        SqlResultStore(engine),
        SqlTrialStore(engine),
        SqlTickStore(engine),
        SqlKeyStore(engine),
        SqlIdempotencyStore(engine),
    )


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def open_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Stores]]:
    """Opens the stores, each time by connections of their own, over one database."""
    if request.param == "memory":
        database = MemoryDatabase()
        keys, idempotency = MemoryKeyStore(), MemoryIdempotencyStore(database)
        counts = MemoryTickStore()
        yield lambda: Stores(
            MemoryFileStore(database),
            MemoryBatchStore(database),
            MemoryResultStore(database),
            MemoryTrialStore(database),
            counts,
            keys,
            idempotency,
        )
        return
    url = f"sqlite:///{tmp_path / 'wylon.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    engines = []

    def open_more() -> Stores:
        engine = open_engine(url)
        engines.append(engine)
        if len(engines) == 1:
            migrate(engine)
        return stores_over(engine)

    yield open_more
    for engine in engines:
        engine.dispose()


@pytest.fixture
def stores(open_stores: Callable[[], Stores]) -> Stores:
    return open_stores()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Each database, migrated, for tests of the rows themselves."""
    is_sqlite = request.param == "sqlite"
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}" if is_sqlite else request.getfixturevalue("postgres_url"))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture(params=["memory", "local"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return MemoryBlobs() if request.param == "memory" else open_blobs(mark(tmp_path / "blobs"))
