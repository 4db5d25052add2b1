"""A side of a race: a process with its own connections, and short cuts for arranging batches and files."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.key_store import SqlIdempotencyStore
from app.adapters.db.result_store import SqlResultStore
from app.domain.batch import Batch
from app.domain.file import PURPOSE_BATCH, PURPOSE_BATCH_OUTPUT, File
from app.domain.lifecycle import Event, Status
from app.domain.plan import PlanEntry, pack_entry
from app.domain.result import NO_USAGE, Result, answered
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.batches import BatchRequest, BatchService
from app.services.dispatch import DispatchService
from app.services.finalization import FinalizationService
from app.services.ports import Planned, Written
from app.services.validation import ValidationService
from tests.fakes.broker import MemoryRoster, RecordingQueue
from tests.fakes.outside import FakeClock, MemoryBlobs

TENANT = "tenant"
CHAT = "/v1/chat/completions"
LINES = 3
NOW = FakeClock().now()


@dataclass
class Side:
    """A process with its own engine and stores; all sides share `blobs` and `clock`."""

    engine: Engine
    files: SqlFileStore
    batches: SqlBatchStore
    results: SqlResultStore
    idempotency: SqlIdempotencyStore
    blobs: MemoryBlobs
    clock: FakeClock
    queue: RecordingQueue = field(default_factory=RecordingQueue)

    def creation(self, files: Any = None) -> BatchService:
        return BatchService(
            self.batches,
            files or self.files,
            self.queue,
            self.clock,
            self.idempotency,
            endpoints=(CHAT,),
            windows=("24h",),
        )

    def validation(self, batches: Any = None) -> ValidationService:
        return ValidationService(
            batches or self.batches,
            self.blobs,
            self.clock,
            route=lambda model, endpoint: DEFAULT_UPSTREAM,
            pinned_lines_per_task=None,
        )

    def dispatch(self, *upstreams: str) -> DispatchService:
        # A roster of its own: the lock was lost with the broker.
        roster = MemoryRoster(self.clock)
        return DispatchService(self.batches, self.queue, roster, self.clock, upstreams=upstreams or (DEFAULT_UPSTREAM,))

    def finalization(self, batches: Any = None) -> FinalizationService:
        return FinalizationService(batches or self.batches, self.results, self.blobs, self.queue, self.clock)

    def batch(self, batch_id: str = "batch_1") -> Batch:
        batch = self.batches.find(batch_id)
        assert batch is not None
        return batch

    def upload(self, file_id: str = "file-1", expires_at: float | None = None) -> File:
        requests = [
            {"custom_id": f"id-{n}", "method": "POST", "url": CHAT, "body": {"model": "m"}} for n in range(LINES)
        ]
        data = b"".join(json.dumps(request | {"body": _BODY}).encode() + b"\n" for request in requests)
        file = File(file_id, TENANT, PURPOSE_BATCH, "in.jsonl", len(data), f"files/{file_id}", NOW, expires_at)
        self.blobs.put(file.blob, data)
        self.files.add(file)
        return file

    def create(self, file: File) -> Batch:
        return self.creation().create(TENANT, request_of(file))

    def add_running(self, batch_id: str = "batch_1", total: int = LINES) -> Batch:
        """Add a batch with lines ready for dispatch, and with the blobs that finalizing reads."""
        lines = [json.dumps({"custom_id": f"id-{position}", "body": {}}).encode() + b"\n" for position in range(total)]
        starts = [sum(map(len, lines[:number])) for number in range(total)]
        plan = [pack_entry(PlanEntry(n + 1, starts[n], len(line) - 1)) for n, line in enumerate(lines)]
        self.blobs.put(f"files/{batch_id}", b"".join(lines))
        self.blobs.put(f"plans/{batch_id}", b"".join(plan))
        values: dict[str, Any] = {"created_at": NOW, "expires_at": NOW + 86_400, "input_blob": f"files/{batch_id}"}
        self.batches.add(Batch(batch_id, TENANT, CHAT, "file-in", "24h", Status.VALIDATING, **values))
        planned = Planned(f"plans/{batch_id}", 1, [(DEFAULT_UPSTREAM, total)], "small")
        return self.batches.accept(batch_id, planned, NOW)

    def add_mixed(self, batch_id: str = "batch_1", each: int = LINES) -> Batch:
        """Add a batch with `each` lines for each of two upstreams, a line a task."""
        values: dict[str, Any] = {"created_at": NOW, "expires_at": NOW + 86_400, "input_blob": f"files/{batch_id}"}
        self.batches.add(Batch(batch_id, TENANT, CHAT, "file-in", "24h", Status.VALIDATING, **values))
        planned = Planned(f"plans/{batch_id}", 1, [("gpu", each), ("cpu", each)], None)
        return self.batches.accept(batch_id, planned, NOW)

    def add_recorded(self, batch_id: str = "batch_1", total: int = LINES) -> None:
        self.add_running(batch_id, total)
        self.results.record([result(position, batch_id) for position in range(total)])

    def add_sealed(self, batch_id: str = "batch_1", token: str = "mine") -> None:
        """Add a sealed batch without files; `token` holds the lease."""
        self.add_recorded(batch_id)
        assert self.batches.lease(batch_id, token)
        self.batches.seal(batch_id, token, NOW)

    def cancel(self, batch_id: str = "batch_1") -> Batch:
        return self.batches.advance(batch_id, Event.CANCEL_REQUESTED, NOW)

    def expire(self, batch_id: str = "batch_1") -> Batch:
        return self.batches.advance(batch_id, Event.WINDOW_ELAPSED, NOW)

    def seal(self, token: str = "mine", batch_id: str = "batch_1") -> Batch:
        return self.batches.seal(batch_id, token, NOW)

    def finish(self, token: str = "mine", batch_id: str = "batch_1") -> Batch:
        return self.batches.finish(batch_id, written(batch_id, token), token, NOW)

    def record(self, *results: Result) -> Any:
        return self.results.record(results)

    def output_files(self) -> list[File]:
        return self.files.page(TENANT, NOW, purpose=PURPOSE_BATCH_OUTPUT, after=None, limit=99, newest_first=False)

    def rows(self, batch_id: str = "batch_1") -> dict[int, bytes]:
        return {position: payload for position, _, payload, _ in self.results.read(batch_id)}

    def lines_of(self, file_id: str | None) -> list[str]:
        """Return the custom_id of each line of a file."""
        file = None if file_id is None else self.files.get(TENANT, file_id, NOW)
        data = b"" if file is None else self.blobs.read(file.blob, 0, file.bytes)
        return [json.loads(line)["custom_id"] for line in data.splitlines()]


_BODY = {"model": "small", "messages": [{"role": "user", "content": "?"}]}


def request_of(file: File) -> BatchRequest:
    return BatchRequest(file.id, CHAT, "24h")


def result(position: int, batch_id: str = "batch_1", *, body: bytes = b"{}") -> Result:
    return Result(batch_id, position, True, answered(batch_id, position, f"id-{position}", 200, "r", body), NO_USAGE)


def written(batch_id: str, token: str) -> Written:
    blob = f"results/{batch_id}-output-{token}"
    output = File(f"file-{batch_id}-{token}", TENANT, PURPOSE_BATCH_OUTPUT, "out.jsonl", 2, blob, NOW)
    return Written(output, None)


def ids_of(files: Iterable[File]) -> list[str]:
    return sorted(file.id for file in files)
