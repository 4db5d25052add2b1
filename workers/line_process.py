"""A worker process: the engine, the writer and the heartbeat, and the beginning and end of a line task."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import structlog
from celery import Celery

from app.adapters.queue import lines_queue
from app.config import Settings
from app.domain import fairness, ids
from app.domain.concurrency import ConcurrencyLimit
from app.domain.errors import BlobMissing, Unavailable
from app.domain.plan import ENTRY_BYTES, unpack_entries
from app.domain.rates import RateLimit
from app.domain.upstream import UpstreamSpec
from app.services.ports import Blobs, Delivery, LineTask, Progress, read_whole
from app.wiring.lines import Lines, build_lines
from app.wiring.sharing import weights_of
from workers.batch_turns import Weight
from workers.batches_in_hand import BatchesInHand, BatchInHand
from workers.engine import LineEngine
from workers.heartbeat import Heartbeat
from workers.lane import Lane
from workers.lease import Lease
from workers.line_run import Line, LineRun
from workers.missing_blobs import MissingBlobs
from workers.quarantine import Quarantine
from workers.refill_requests import RefillRequests
from workers.taken import Taken
from workers.writer import ResultWriter

log = structlog.get_logger()

# Lines up to this size are read together before they run; larger lines singly, when their turn comes.
_SMALL_LINE_BYTES = 64 * 1024
_READ_BYTES = 1024 * 1024
# Shortest interval, roughly, between refill requests of all workers together.
_REFILL_EVERY_S = 0.05
# After the grace for calls in flight, the writer has this long to record the results.
_COMMIT_SLACK_S = 10.0
# Set in the request of a task whose message must go to another worker.
GIVEN_BACK = "is_given_back"


class LineProcess:
    """Runs line tasks: the pool's threads begin and end a task, and the engine runs its lines in between."""

    def __init__(self, settings: Settings, celery: Celery, name: str) -> None:
        self._settings = settings
        self._lines: Lines = build_lines(settings, celery)
        self._weights = weights_of(settings)
        self.taken = Taken()
        self._lanes = {spec.name: self._lane(spec) for spec in settings.upstreams}
        # The lane of a queue.
        self._by_queue = {lines_queue(name): lane for name, lane in self._lanes.items()}
        self._lease = Lease()
        self._asked_in_term = self._lease.term
        self.is_draining = False
        self._ask_again_at = float("-inf")
        self._batches = BatchesInHand(self._lines.stores.batches)
        self._missing = MissingBlobs(self._lines.queue)
        self._refills = RefillRequests(self._lines.queue.refill)
        self._writer = ResultWriter(
            self._lines.stores.results.record,
            self._on_progress,
            self._lines.memory,
            self._lines.stores.trials.note,
        )
        self._engine = LineEngine(
            list(self._lanes.values()),
            self._writer,
            self._lease,
            Quarantine(self._lines.stores.trials),
            read_line=self._read_line,
            weigh=self._weigh,
        )
        self._heartbeat = Heartbeat(
            name,
            self._lines.roster,
            self._lines.stores,
            self._lines.clock,
            self.taken,
            list(self._lanes.values()),
            self._engine,
            self._batches,
            self._lease,
            cancel_grace_s=settings.cancel_grace_s,
        )

    def _weigh(self, batch: BatchInHand) -> Weight:
        weights, now = self._weights, self._lines.clock.now()
        of_batch = weights.of_deadline(batch.created_at, batch.deadline, now)
        return Weight(batch.tenant_id, weights.of_tenant(batch.tenant_id), of_batch)

    def _lane(self, spec: UpstreamSpec) -> Lane:
        return Lane(
            spec.name,
            self._lines.upstreams[spec.name],
            ConcurrencyLimit(
                spec.max_in_flight or self._settings.concurrency,
                is_adaptive=spec.is_adaptive,
                latency_target_s=spec.latency_target_s,
            ),
            RateLimit(spec.requests_per_minute, spec.tokens_per_minute),
            concurrency=self._settings.concurrency,
            max_in_flight=spec.max_in_flight,
            call_timeout_s=spec.longest_call_s,
            execution=partial(self._lines.execution, spec),
        )

    @property
    def queues(self) -> list[str]:
        """The queues from which this process takes lines."""
        return list(self._by_queue)

    @property
    def drain_s(self) -> float:
        """How long the tasks in hand may take to settle once the process ends, in seconds."""
        return self._settings.drain_grace_s + _COMMIT_SLACK_S

    def start(self) -> None:
        """Start the threads."""
        self._writer.start()
        self._engine.start()
        self._heartbeat.start()

    def drain(self) -> None:
        """Start no more lines, and give back lines that have not run."""
        self.is_draining = True
        self._engine.drain(self._settings.drain_grace_s)

    def stop(self) -> None:
        """Record finished lines, and end the threads."""
        self._engine.stop()
        self._writer.stop()
        self._heartbeat.stop()
        self._lines.stores.engine.dispose()

    def on_room(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from whichever thread, whenever there is room for a task."""
        for lane in self._lanes.values():
            lane.room.on_room(wake)

    def wanted(self, queue: str) -> int | None:
        """Return how many more tasks as large as the last may be taken; None for a queue without lines."""
        if not self._lease.is_held():
            return 0
        lane = self._by_queue.get(queue)
        return lane.room.tasks_wanted() if lane is not None else None

    def term(self) -> int:
        """Return the lease term, read as messages are requested."""
        return self._lease.term

    def take(self, term: int) -> None:
        """Note the lease term at the request of the arriving messages, which left the queue in `term` or later."""
        self._asked_in_term = term

    def receive(self, task_id: str, queue: str, lines: int) -> None:
        """Count a task at its receipt."""
        self.taken.add(task_id, self._asked_in_term)
        lane = self._by_queue.get(queue)
        if lane is not None:
            lane.room.take(lines)

    def end(self, task_id: str, queue: str) -> None:
        """Forget a task that has ended."""
        self.taken.remove(task_id)
        if lane := self._by_queue.get(queue):
            lane.room.task_done()

    def begin(self, request: dict[str, Any], on_settled: Callable[[], None]) -> None:
        """Begin the task of a request; `on_settled` is called once the lines are recorded, dropped or given back.

        GIVEN_BACK in the request says whether lines were given back, so that the message must go to another worker.
        """
        queue = request["delivery_info"]["routing_key"]
        lane, run = self._by_queue.get(queue), None
        # If a task does not begin, upkeep sees lines without a result and without a holder, and sends the lines again.
        if lane is None:
            # The task is from a version with a single queue for all upstreams.
            log.info("task.passed_over", task_id=request["id"], queue=queue)
        else:
            try:
                run = self._begin(lane, *line_task_of(request))
            except (BlobMissing, Unavailable) as fault:
                self._missing.note(request["args"][0], fault)
            except Exception:
                log.exception("task.broke", task_id=request["id"])
        if run is None:
            on_settled()
            return

        def settled() -> None:
            request[GIVEN_BACK] = run.is_given_back
            on_settled()

        run.on_settled(settled)

    def _begin(self, lane: Lane, batch_id: str, task: LineTask, delivery: Delivery) -> LineRun | None:
        task_id, lines = ids.task_id(batch_id, task.number), task.end - task.first
        submitted = 0
        try:
            term = self.taken.begin(task_id)
            if term is None or not self._lease.covers(term):
                return None
            batch = self._batches.get(batch_id)
            if batch is None or not batch.has_lines(lane.name, task.first, task.end):
                return None
            # Without a look: the queue refuses a first delivery that repair may have overtaken.
            may_have_run = delivery is not Delivery.FIRST
            done = self._lines.stores.results.recorded(batch_id, task.first, task.end) if may_have_run else set()
            if len(done) == lines:
                return None
            run = LineRun(batch, lines - len(done), term, is_alone=delivery is Delivery.ALONE)
            submitted = self._submit(lane, run, task, done)
            return run
        finally:
            lane.room.lines_skipped(lines - submitted)

    def _submit(self, lane: Lane, run: LineRun, task: LineTask, done: set[int]) -> int:
        blobs = self._lines.stores.blobs
        length = (task.end - task.first) * ENTRY_BYTES
        plan = read_whole(blobs, run.batch.plan_blob, task.first * ENTRY_BYTES, length)
        lines, small = [], []
        for position, entry in enumerate(unpack_entries(plan), task.first):
            if position in done:
                continue
            line = Line(run, lane, position, entry.offset, entry.length)
            lines.append(line)
            if entry.length <= _SMALL_LINE_BYTES:
                small.append(line)
        read_together(blobs, run.batch.input_blob, small)
        self._engine.submit(lines)
        return len(lines)

    def _read_line(self, line: Line) -> bytes:
        try:
            return read_whole(self._lines.stores.blobs, line.run.batch.input_blob, line.offset, line.length)
        except (BlobMissing, Unavailable) as fault:
            self._missing.note(line.run.batch.id, fault)
            raise

    def _on_progress(self, progress: list[Progress]) -> None:
        self._heartbeat.progressed()
        outstanding = Counter[str]()
        for part in progress:
            outstanding[part.upstream] += part.lines_outstanding
        with_more = {part.upstream for part in progress if not part.is_dispatched_whole}
        is_due = any(fairness.is_due(outstanding[name], self._heartbeat.windows.get(name, 0)) for name in with_more)
        # A small batch is published whole. The next lines are of a batch perhaps unknown to this process.
        is_due = is_due or any(part.is_recorded_whole for part in progress)
        if is_due and self._may_ask():
            # A broker that does not answer must not hold up the recording of results.
            self._refills.request()

    def _may_ask(self) -> bool:
        now = self._lines.stores.clock.monotonic()
        if now < self._ask_again_at:
            return False
        # The more workers, the less often a worker asks: a request waiting in the queue serves all workers.
        self._ask_again_at = now + _REFILL_EVERY_S * max(self._heartbeat.workers, 1)
        return True


def line_task_of(request: dict[str, Any]) -> tuple[str, LineTask, Delivery]:
    """Return the batch id and the line task of a request, and how the task was sent."""
    batch_id, number, first, end, delivery, *_ = request["args"]
    how = Delivery(delivery)
    # The worker that had the message before may have run the lines.
    if how is Delivery.FIRST and request["delivery_info"].get("redelivered"):
        how = Delivery.AGAIN
    return batch_id, LineTask(number, first, end), how


def read_together(blobs: Blobs, input_blob: str, lines: list[Line]) -> None:
    """Read the bytes of lines, with a single read for lines near each other in the input."""
    for group in _neighbours(lines):
        start = group[0].offset
        data = read_whole(blobs, input_blob, start, group[-1].offset + group[-1].length - start)
        for line in group:
            line.data = data[line.offset - start : line.offset - start + line.length]


def _neighbours(lines: list[Line]) -> list[list[Line]]:
    """Group lines near each other in the input, in its order, so that a group is a single read of bounded size."""
    groups: list[list[Line]] = []
    # Lines that begin alike come before other lines of the input, so the order of the lines is not that of the input.
    for line in sorted(lines, key=attrgetter("offset")):
        group = groups[-1] if groups else []
        if group and line.offset + line.length - group[0].offset <= _READ_BYTES:
            group.append(line)
        else:
            groups.append([line])
    return groups
