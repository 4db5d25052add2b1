"""The real services over real stores, each call of a port a step, and the processes that run them."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from app.domain.batch import Batch
from app.domain.file import PURPOSE_BATCH, File
from app.domain.ids import new_file_id
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.batches import BatchRequest, BatchService
from app.services.dispatch import DispatchService
from app.services.finalization import FinalizationService
from app.services.ports import BatchStore, FileStore, IdempotencyStore, LineTask, ResultStore, TrialStore
from app.services.upkeep import UpkeepService
from app.services.validation import ValidationService
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.model.broker import Broker, ControlMessage, LineMessage, ModelRoster
from tests.model.ledger import Ledger
from tests.model.steps import Fault, Operation, Stepped, Steps, stepped_blobs
from tests.model.workers import Run, Worker, custom_id

TENANT = "tenant"
CHAT = "/v1/chat/completions"
WINDOW = "1h"
WINDOW_S = 3_600
CANCEL_GRACE_S = 30.0
FINALIZE_MAX_TRIES = 3
_MOVES = {"move_cursor", "move_free_cursors"}
# After each of these writes the ledger looks at the batches.
_WRITES = {"add", "advance", "accept", "reject", "finish", "seal", "record", "clear", *_MOVES}
TICKS = ("expire", "repair", "refill", "sweep", "sweep_broker", "sweep_blobs")


class Stores(NamedTuple):
    files: FileStore
    batches: BatchStore
    results: ResultStore
    trials: TrialStore
    idempotency: IdempotencyStore


def _route(model: str | None, endpoint: str) -> str | None:
    return DEFAULT_UPSTREAM if model == "small" else None


class World:
    """The whole deployment except the memory of workers; the world changes only when a test calls a method."""

    def __init__(self, stores: Stores, lines_per_task: int | None) -> None:
        self.stores = stores
        self.clock = FakeClock()
        self.blobs = MemoryBlobs(self.clock)
        self.broker = Broker()
        self.roster = ModelRoster(self.clock)
        self.ledger = Ledger(stores.batches, stores.results, stores.files, self.blobs)
        self.steps = Steps()
        self.stalled: list[Operation] = []
        self.tries = 0
        self.steps.on_effect = self._look
        self.broker.on_publish = self._publish
        self.broker.fence_of = lambda batch_id: self.roster.fences([batch_id])[batch_id]

        files, batches, self._results, trials, idempotency = (Stepped(self.steps, store) for store in stores)
        queue, roster = Stepped(self.steps, self.broker), Stepped(self.steps, self.roster)
        blobs = stepped_blobs(self.steps, self.blobs)
        self._batches = BatchService(
            batches, files, queue, self.clock, idempotency, endpoints=(CHAT,), windows=(WINDOW,)
        )
        self._validation = ValidationService(
            batches,
            blobs,
            self.clock,
            route=_route,
            pinned_lines_per_task=lines_per_task,
        )
        self._dispatch = DispatchService(batches, queue, roster, self.clock)
        self._finalization = FinalizationService(batches, self._results, blobs, queue, self.clock)
        self._upkeep = UpkeepService(
            batches,
            self._results,
            trials,
            files,
            idempotency,
            blobs,
            queue,
            roster,
            self.clock,
            self._dispatch,
            cancel_grace_s=CANCEL_GRACE_S,
            finalize_max_tries=FINALIZE_MAX_TRIES,
        )

    def upload(self, lines: int, *, model: str = "small") -> File:
        """Upload an input file; a file with a model other than `small` is rejected."""
        body = {"model": model, "messages": [{"role": "user", "content": "?"}]}
        requests = [{"custom_id": custom_id(n), "method": "POST", "url": CHAT, "body": body} for n in range(lines)]
        data = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
        file_id = new_file_id()
        file = File(file_id, TENANT, PURPOSE_BATCH, "in.jsonl", len(data), f"files/{file_id}", self.clock.now())
        self.blobs.put(file.blob, data)
        self.stores.files.add(file)
        return file

    def create(self, file_id: str, key: str, fault: Fault | None = None) -> Batch | None:
        """Create a batch as a caller would; return None after a refusal or without an answer."""
        # Each batch has an instant of its own: stores order batches of one instant by id, and ids are random.
        self.clock.advance(0.001)
        request = BatchRequest(file_id, CHAT, WINDOW, {"key": key})
        batch = self.run("create", lambda: self._batches.create(TENANT, request, idempotency_key=key), fault).value
        assert batch is None or isinstance(batch, Batch)
        return batch

    def cancel(self, batch_id: str, fault: Fault | None = None) -> None:
        self.run("cancel", lambda: self._batches.cancel(TENANT, batch_id), fault)

    def tick(self, name: str, fault: Fault | None = None) -> None:
        """Run a task of beat."""
        self.run(name, self._dispatch.refill if name == "refill" else getattr(self._upkeep, name), fault)

    def handle(self, message: ControlMessage, fault: Fault | None = None) -> None:
        """Run a task of control, in the way of `workers/control_tasks.py`."""
        calls: dict[str, Callable[[], Any]] = {
            "validate": lambda: self._validation.validate(message.batch_id) and self._dispatch.refill(),
            "refill": self._dispatch.refill,
            "close": lambda: self._dispatch.close(message.batch_id),
            "finalize": lambda: self._finalization.finalize(message.batch_id),
        }
        self.run(message.kind, calls[message.kind], fault)

    def take(self, worker: Worker, message: LineMessage) -> Run | None:
        run = worker.take(message, self.stores.batches, self.stores.results, self.broker)
        if run is not None and message.is_repair:
            seen = self.ledger.seen[message.batch_id]
            assert not set(run.todo) & seen.lines.keys(), "a line that has a result is run again"
        return run

    def call(self, worker: Worker, run: Run, *, is_good: bool) -> None:
        self.tries += 1
        worker.call(run, self.tries, is_good=is_good)

    def record(self, worker: Worker, run: Run, fault: Fault | None = None) -> Operation:
        """Have a worker record the answers of a task; without an acknowledgement, the worker keeps the answers."""
        answers = tuple(run.answers)

        def record() -> None:
            self._results.record(answers)
            run.answers = [answer for answer in run.answers if answer not in answers]
            worker.settle(self.broker)

        return self.run("record", record, fault)

    def run(self, name: str, call: Callable[[], object], fault: Fault | None = None) -> Operation:
        operation = self.steps.run(name, call, fault)
        if not operation.is_over:
            self.stalled.append(operation)
        return operation

    def resume(self, operation: Operation, fault: Fault | None = None) -> None:
        self.stalled.remove(operation)
        self.steps.resume(operation, fault)
        if not operation.is_over:
            self.stalled.append(operation)

    def kill(self, operation: Operation) -> None:
        self.stalled.remove(operation)
        self.steps.kill(operation)

    def _publish(self, batch_id: str, tasks: Sequence[LineTask]) -> bool:
        self.ledger.check_published(batch_id, tasks)
        return self.steps.running is not None and self.steps.running.name == "repair"

    def _look(self, step: str, args: tuple[Any, ...]) -> None:
        if step in _WRITES:
            self.ledger.look(step, offered=args[0] if step == "record" else ())
