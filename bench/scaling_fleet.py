"""Parts of a simulation of many workers: the fleet, the outcome, the list of tasks, a worker, the database."""

import heapq
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.domain.batch import Batch
from app.domain.ids import task_id
from app.domain.lifecycle import Status
from app.domain.result import Result
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services import sharing
from app.services.ports import Delivery, LaneState, LineTask, Unacked, WorkerState
from tests.fakes.broker import RecordingQueue
from workers.room import Room
from workers.taken import Taken


@dataclass(frozen=True)
class Fleet:
    """The simulated fleet. `call_s` is the mean time of a call; calls take 0.5 to 1.5 times the mean."""

    workers: int
    concurrency: int
    call_s: float
    lines_per_task: int = 50
    batches: int = 4
    lines_per_batch: int = 50_000
    # A transaction's time on the row of its batch, and the time per line of the transaction.
    commit_s: float = 0.001
    row_s: float = 0.00005
    postgres_cores: int = 8
    # Dispatch's limit on the window; a value besides dispatch's own shows the effect of a different limit.
    max_window: int = sharing._MAX_WINDOW
    # Whether a served worker takes tasks until its room is full, not a single task a turn.
    takes_all: bool = False
    # Time on control's core: for a refill, for a published task, for a read of which lines of a batch lack a result.
    refill_s: float = 0.005
    publish_s: float = 0.0003
    bits_s: float = 0.0


@dataclass
class Outcome:
    """The result of a simulation; rates are from the measured part, after the start."""

    lines_per_s: float = 0.0
    commits_per_s: float = 0.0
    refills_per_s: float = 0.0
    # Mean calls in flight, as a share of the slots.
    slots_used: float = 0.0
    # Mean share of workers without a line in hand.
    workers_idle: float = 0.0
    control_used: float = 0.0
    # From the arrival of a result to its commit.
    mean_commit_wait_s: float = 0.0
    most_outstanding: int = 0
    window: int = 0
    # The longest time that a running batch with lines left had no line started.
    longest_wait_of_a_batch_s: float = 0.0
    lines_run: int = 0
    lines_run_twice: int = 0
    batches_ended: int = 0
    faults: list[str] = field(default_factory=list)


class LineQueue(RecordingQueue):
    """The broker's list of line tasks; tasks taken and not returned are `unacked`."""

    def __init__(self) -> None:
        super().__init__()
        self.line_tasks: deque[tuple[str, LineTask]] = deque()
        self.unreturned: dict[str, Unacked] = {}
        self.published_now = 0

    def publish_lines(self, batch_id: str, upstream: str, tasks: Any, delivery: Delivery, fence: str) -> bool:
        self.line_tasks.extend((batch_id, task) for task in tasks)
        self.waiting.update(task_id(batch_id, task.number) for task in tasks)
        self.published_now += len(tasks)
        return True

    def open_chord(self, batch_id: str, tasks: int) -> None:
        """Do not count: a simulated batch ends when every line is recorded."""

    def take(self) -> tuple[str, str, LineTask]:
        batch_id, task = self.line_tasks.popleft()
        name = task_id(batch_id, task.number)
        self.waiting.discard(name)
        self.unreturned[name] = Unacked(name, name, is_lines=True, batch_id=None)
        return name, batch_id, task

    def unacked(self, limit: int, before: float | None = None) -> list[Unacked]:
        return list(self.unreturned.values())[:limit]

    def drop_unacked(self, tags: Any) -> None:
        for tag in tags:
            self.unreturned.pop(tag, None)


class SimulatedWorker:
    """A worker process with the real intake."""

    def __init__(self, name: str, concurrency: int) -> None:
        self.name = name
        self.concurrency = self.free = concurrency
        self.taken = Taken()
        self.room = Room(concurrency)
        self.lines: deque[tuple[str, int, str]] = deque()
        self.left: dict[str, int] = {}
        self.results: list[tuple[float, Result, str]] = []
        self.is_writing = False
        self.is_asking = False
        self.is_alive = True
        self.answered = 0
        self.window = 0

    def state(self, since_s: float) -> WorkerState:
        """Return the worker's report, `since_s` after the last report."""
        pace, self.answered = self.answered / since_s, 0
        self.room.set_pace(pace)
        return WorkerState(self.name, self.taken.task_ids(), {DEFAULT_UPSTREAM: LaneState(self.concurrency, pace)})

    def has_room(self) -> bool:
        """Return whether the worker may take another task."""
        return self.room.tasks_wanted() > 0


class Commits:
    """The database's time: shared cores, and rows of batches that a single transaction holds at a time."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._row_free_at: dict[str, float] = {}
        self._core_free_at = [0.0] * fleet.postgres_cores

    def end_of(self, now: float, rows: set[str], lines: int) -> float:
        """Return the end of a transaction begun now, for the batches `rows` and for `lines` lines."""
        core = heapq.heappop(self._core_free_at)
        start = max(now, core, *(self._row_free_at.get(row, 0.0) for row in rows))
        end = start + self._fleet.commit_s * len(rows) + self._fleet.row_s * lines
        self._row_free_at.update(dict.fromkeys(rows, end))
        heapq.heappush(self._core_free_at, end)
        return end


class Ledger:
    """The started lines, with the number of starts; compared with the results when a batch closes."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self.started: dict[str, Counter[int]] = {}
        self.last_started_at: dict[str, float] = {}

    def open(self, batch_id: str, now: float) -> None:
        """Begin to follow a batch."""
        self.started[batch_id] = Counter()
        self.last_started_at[batch_id] = now

    def start(self, batch_id: str, position: int, now: float) -> None:
        """Record the start of a call."""
        self.started[batch_id][position] += 1
        self.last_started_at[batch_id] = now

    def close(self, batch_id: str, batch: Batch | None, results: Collection[int]) -> None:
        """Compare the calls with the batch's counts and with the positions of the results."""
        started = self.started.pop(batch_id)
        self._outcome.lines_run += len(started)
        self._outcome.lines_run_twice += sum(times > 1 for times in started.values())
        if batch is not None and len(results) != batch.recorded:
            self._outcome.faults.append(f"{batch_id} counts {batch.recorded} lines and has {len(results)} results")
        if lost := set(results) - set(started):
            self._outcome.faults.append(f"{batch_id} has results of {len(lost)} lines that never ran")


def new_batch(batch_id: str, now: float) -> Batch:
    """Return a batch that waits for validation."""
    return Batch(batch_id, "tenant", "/v1", "file", "24h", Status.VALIDATING, now, now + 86_400)


@contextmanager
def window_of(lines: int) -> Iterator[None]:
    """Let dispatch publish up to `lines` lines inside the block."""
    before = sharing._MAX_WINDOW
    sharing._MAX_WINDOW = lines
    try:
        yield
    finally:
        sharing._MAX_WINDOW = before
