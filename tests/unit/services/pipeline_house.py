"""The services that run a batch, over fakes that share one database."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain.batch import Batch, Usage
from app.domain.lifecycle import Status
from app.domain.plan import PlanEntry, pack_entry
from app.domain.result import Result, answered
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.dispatch import DispatchService
from app.services.finalization import FinalizationService
from app.services.ports import LaneState, Planned, WorkerState
from app.services.upkeep import UpkeepService
from tests.fakes.broker import MemoryRoster, RecordingQueue
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.fakes.results import MemoryResultStore
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore
from tests.fakes.trials import MemoryTrialStore

NOW = 1_700_000_000.0
CHAT = "/v1/chat/completions"
CANCEL_GRACE_S = 30.0
FINALIZE_MAX_TRIES = 3


def new_batch(batch_id: str = "batch_1", **fields: object) -> Batch:
    """Return a batch that waits for its validation."""
    values: dict[str, Any] = {
        "tenant_id": "tenant",
        "endpoint": CHAT,
        "input_file_id": "file-in",
        "completion_window": "24h",
        "status": Status.VALIDATING,
        "created_at": NOW,
        "expires_at": NOW + 86_400,
        "input_blob": "files/in",
    }
    return Batch(id=batch_id, **(values | fields))


@dataclass
class PipelineHouse:
    """Dispatch, finalization and upkeep over one memory database."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    upstreams: tuple[str, ...] = (DEFAULT_UPSTREAM,)

    def __post_init__(self) -> None:
        self.database = MemoryDatabase()
        self.batches = MemoryBatchStore(self.database)
        self.results = MemoryResultStore(self.database)
        self.trials = MemoryTrialStore(self.database)
        self.files = MemoryFileStore(self.database)
        self.idempotency = MemoryIdempotencyStore(self.database)
        self.blobs = MemoryBlobs(self.clock)
        self.queue = RecordingQueue()
        self.roster = MemoryRoster(self.clock)
        self.queue.roster = self.roster
        self.finalization = self.finalization_over(self.results)
        self.configure(*self.upstreams)

    def configure(self, *upstreams: str, is_abandoned: Callable[[str], bool] = lambda _: False) -> None:
        """Have dispatch and upkeep know these upstreams from now on."""
        self.upstreams = upstreams
        self.dispatch = self.dispatch_over(self.batches)
        self.upkeep = UpkeepService(
            self.batches,
            self.results,
            self.trials,
            self.files,
            self.idempotency,
            self.blobs,
            self.queue,
            self.roster,
            self.clock,
            self.dispatch,
            cancel_grace_s=CANCEL_GRACE_S,
            finalize_max_tries=FINALIZE_MAX_TRIES,
            upstreams=self.upstreams,
            is_abandoned=is_abandoned,
        )

    def dispatch_over(self, batches: MemoryBatchStore) -> DispatchService:
        """Return a dispatcher that reads and writes elsewhere."""
        return DispatchService(batches, self.queue, self.roster, self.clock, upstreams=self.upstreams)

    def finalization_over(self, results: Any, blobs: Any = None) -> FinalizationService:
        """Return a finalizer that reads and writes elsewhere."""
        return FinalizationService(
            self.batches, results, blobs or self.blobs, self.queue, self.clock, find_met=self.trials.met
        )

    def add_running(
        self, batch_id: str = "batch_1", total: int = 10, *, lines_per_task: int = 1, **fields: object
    ) -> Batch:
        """Add a batch whose input and plan are there and whose lines can be dispatched."""
        return self.add_for({DEFAULT_UPSTREAM: total}, batch_id, lines_per_task=lines_per_task, **fields)

    def add_for(
        self, lines: Mapping[str, int], batch_id: str = "batch_1", *, lines_per_task: int = 1, **fields: object
    ) -> Batch:
        """Add such a batch with so many lines for each of these upstreams."""
        input_blob, plan_blob = f"files/{batch_id}", f"plans/{batch_id}"
        total = sum(lines.values())
        requests = [json.dumps({"custom_id": f"id-{position}", "body": {}}).encode() for position in range(total)]
        entries, offset = [], 0
        for number, line in enumerate(requests, 1):
            entries.append(pack_entry(PlanEntry(number, offset, len(line))))
            offset += len(line) + 1
        self.blobs.put(input_blob, b"\n".join(requests) + b"\n")
        self.blobs.put(plan_blob, b"".join(entries))
        self.batches.add(new_batch(batch_id, input_blob=input_blob, **fields))
        planned = Planned(plan_blob, lines_per_task, [*lines.items()], "small")
        return self.batches.accept(batch_id, planned, self.clock.now())

    def dispatch_all(self, batch_id: str = "batch_1") -> None:
        """Count every task of a batch as sent."""
        for section in self.batch(batch_id).sections:
            if section.next_task < section.end_task:
                assert self.batches.move_cursor(batch_id, section.next_task, section.end_task)

    def record(self, *positions: int, batch_id: str = "batch_1", ok: bool = True) -> None:
        self.results.record([result_of(position, batch_id, ok=ok) for position in positions])

    def add_worker(
        self, name: str = "worker-1", concurrency: int = 8, *, held_tasks: tuple[str, ...] = (), **fields: object
    ) -> None:
        lane = LaneState(concurrency)._replace(**fields)
        self.roster.report(WorkerState(name, held_tasks, {DEFAULT_UPSTREAM: lane}))

    def add_worker_of(self, name: str = "worker-1", *, held_tasks: tuple[str, ...] = (), **slots: int) -> None:
        """Add a worker that may have so many calls to each of these upstreams in flight."""
        lanes = {upstream: LaneState(count) for upstream, count in slots.items()}
        self.roster.report(WorkerState(name, held_tasks, lanes))

    def look_twice(self) -> None:
        """Repair as often as makes a task lost that nobody has."""
        for _ in range(2):
            self.upkeep.repair()
            self.clock.advance(3)
        self.upkeep.repair()

    def batch(self, batch_id: str = "batch_1") -> Batch:
        batch = self.batches.find(batch_id)
        assert batch is not None
        return batch

    def alter(self, batch_id: str = "batch_1", **fields: Any) -> None:
        """Arrange what would take long to come about by itself."""
        row = self.database.batches[batch_id]
        row.batch = replace(row.batch, **fields)

    def published(self, batch_id: str = "batch_1") -> list[int]:
        return [number for owner, number in self.queue.published if owner == batch_id]

    def repeated(self, batch_id: str = "batch_1") -> list[int]:
        return [number for owner, number in self.queue.repeated if owner == batch_id]


def result_of(position: int, batch_id: str = "batch_1", *, ok: bool = True) -> Result:
    payload = answered(batch_id, position, f"id-{position}", 200 if ok else 400, "req", b"{}")
    return Result(batch_id, position, ok, payload, Usage(3, 1, 2, 0))
