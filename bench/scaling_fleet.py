"""What a simulation of many workers is made of: the fleet, its outcome, the list of tasks, a worker, the database."""

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
    """What is simulated. `call_s` is the mean of calls that take from half to one and a half of it."""

    workers: int
    concurrency: int
    call_s: float
    lines_per_task: int = 50
    batches: int = 4
    lines_per_batch: int = 50_000
    # A transaction's time on the row of its batch, and the time of each line in it.
    commit_s: float = 0.001
    row_s: float = 0.00005
    postgres_cores: int = 8
    # Of dispatch: another one than its own shows what it would bring.
    max_window: int = sharing._MAX_WINDOW
    # Whether a worker that is served takes all tasks that it has room for, not one and then its turn again.
    takes_all: bool = False
    # Control's core: for a refill, for a task that is published, for a look at one batch's results.
    refill_s: float = 0.005
    publish_s: float = 0.0003
    counts_s: float = 0.0


@dataclass
class Outcome:
    """What came of it; rates are those of the measured part, after the start."""

    lines_per_s: float = 0.0
    commits_per_s: float = 0.0
    refills_per_s: float = 0.0
    # Mean calls in flight, as a share of all slots.
    slots_used: float = 0.0
    # Workers without any line in hand, as a share, on average.
    workers_idle: float = 0.0
    control_used: float = 0.0
    # From the moment a result came in until it was committed.
    mean_commit_wait_s: float = 0.0
    most_outstanding: int = 0
    window: int = 0
    # The longest that a running batch with lines left had nothing started.
    longest_wait_of_a_batch_s: float = 0.0
    lines_run: int = 0
    lines_run_twice: int = 0
    batches_ended: int = 0
    faults: list[str] = field(default_factory=list)


class LineQueue(RecordingQueue):
    """The broker's list of line tasks; what was taken and not returned is its `unacked`."""

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
        """Count nothing: batches are ended when each line is recorded."""

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
    """One process: its intake is the real one."""

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
        """Return what it says of itself, so long after the last time."""
        pace, self.answered = self.answered / since_s, 0
        self.room.set_pace(pace)
        return WorkerState(self.name, self.taken.task_ids(), {DEFAULT_UPSTREAM: LaneState(self.concurrency, pace)})

    def has_room(self) -> bool:
        """Return whether another task may be taken."""
        return self.room.tasks_wanted() > 0


class Commits:
    """The database's time: cores that are shared, and rows of batches that one transaction has at a time."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._row_free_at: dict[str, float] = {}
        self._core_free_at = [0.0] * fleet.postgres_cores

    def end_of(self, now: float, rows: set[str], lines: int) -> float:
        """Return when a transaction ends that is begun now, for these batches and so many lines."""
        core = heapq.heappop(self._core_free_at)
        start = max(now, core, *(self._row_free_at.get(row, 0.0) for row in rows))
        end = start + self._fleet.commit_s * len(rows) + self._fleet.row_s * lines
        self._row_free_at.update(dict.fromkeys(rows, end))
        heapq.heappush(self._core_free_at, end)
        return end


class Ledger:
    """Which lines were started, and how often; held against the results when a batch is closed."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self.started: dict[str, Counter[int]] = {}
        self.last_started_at: dict[str, float] = {}

    def open(self, batch_id: str, now: float) -> None:
        """Follow a batch from now on."""
        self.started[batch_id] = Counter()
        self.last_started_at[batch_id] = now

    def start(self, batch_id: str, position: int, now: float) -> None:
        """Note a call."""
        self.started[batch_id][position] += 1
        self.last_started_at[batch_id] = now

    def close(self, batch_id: str, batch: Batch | None, results: Collection[int]) -> None:
        """Compare the calls with the batch's counts and the positions that have a result."""
        started = self.started.pop(batch_id)
        self._outcome.lines_run += len(started)
        self._outcome.lines_run_twice += sum(times > 1 for times in started.values())
        if batch is not None and len(results) != batch.recorded:
            self._outcome.faults.append(f"{batch_id} counts {batch.recorded} lines and has {len(results)} results")
        if lost := set(results) - set(started):
            self._outcome.faults.append(f"{batch_id} has results of {len(lost)} lines that never ran")


def new_batch(batch_id: str, now: float) -> Batch:
    """Return a batch that waits for its validation."""
    return Batch(batch_id, "tenant", "/v1", "file", "24h", Status.VALIDATING, now, now + 86_400)


@contextmanager
def window_of(lines: int) -> Iterator[None]:
    """Let dispatch publish up to so many lines meanwhile."""
    before = sharing._MAX_WINDOW
    sharing._MAX_WINDOW = lines
    try:
        yield
    finally:
        sharing._MAX_WINDOW = before
