"""The capacity model: what a load takes of each resource, from unit costs. Arithmetic only."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import LaneState, WorkerState
from app.services.sharing import window_lines

LINES_PER_DAY = 1e8
DAY_S = 86_400.0
# How often things happen by themselves: workers/heartbeat.py, workers/line_process.py, workers/schedule.py.
BEATS_PER_S = 1.0
REFILLS_PER_S = 20.0
REPAIR_EVERY_S = 3.0
GATHER_S = 0.04
# Upkeep deletes at most 40 × 5,000 results every 10 s.
DELETES_PER_S = 20_000.0
# Batches that dispatch runs side by side.
MAX_RUNNING = 200
# The defaults of the servers, and a common network card.
REDIS_MAX_CLIENTS = 10_000
POSTGRES_MAX_CONNECTIONS = 100
NETWORK_BYTES_PER_S = 1.25e9
# What a search for the largest rate looks up to.
_MOST_LINES_PER_S = 1e7


@dataclass(frozen=True)
class RosterCost:
    """One read of the roster: `fixed`, and for each worker, and for each task that they hold."""

    fixed: float
    per_worker: float
    per_task: float

    def of(self, workers: float, tasks_held: float) -> float:
        """Return the cost with so many workers that hold so many tasks each."""
        return self.fixed + workers * (self.per_worker + tasks_held * self.per_task)


@dataclass(frozen=True)
class Costs:
    """Unit costs: CPU seconds, bytes and counts, as they were measured."""

    worker_s_per_line: float
    # Of control: `active(200)` with 200 batches, and what a line and a task cost from validation to the files.
    control_s_per_line: float
    control_s_per_task: float
    refill_s_per_batch: float
    # One look at the counts of a batch of 50,000 lines that are all recorded.
    counts_s: float
    web_s_per_line: float
    redis_s_per_task: float
    redis_s_per_idle_worker: float
    redis_clients_fixed: float
    redis_clients_per_worker: float
    roster_reader_s: RosterCost
    roster_redis_s: RosterCost
    roster_bytes: RosterCost
    postgres_s_per_line: float
    postgres_s_per_commit: float
    postgres_connections_fixed: float
    postgres_connections_per_worker: float
    # Commits per second of one batch, whose row each of them locks.
    commits_per_s_of_a_batch: float


@dataclass(frozen=True)
class Load:
    """So many lines per second, through so many workers."""

    workers: int
    concurrency: int
    call_s: float
    lines_per_s: float
    lines_per_task: int = 50
    batches: int = 4

    @property
    def window(self) -> int:
        """Lines that dispatch keeps published and not recorded, at most."""
        return window_lines([WorkerState("all", (), {DEFAULT_UPSTREAM: LaneState(self.workers * self.concurrency)})])

    @property
    def tasks_held(self) -> float:
        """Tasks in the hands of one worker: two lines for each slot, where the window has as many."""
        return min(2 * self.concurrency, self.window / self.workers) / self.lines_per_task

    @property
    def commits_per_s(self) -> float:
        """Transactions of all writers: each begins with a result and takes what comes within the next 40 ms."""
        each = self.lines_per_s / self.workers
        return self.workers * each / (1 + each * GATHER_S)


def used(load: Load, costs: Costs, *, postgres_cores: int = 8) -> dict[str, float]:
    """Return the share of each resource that the load takes; above 1 it can't be served.

    One core for each worker, for control, for web and for Redis; `postgres_cores` for the database.
    """
    lines, tasks = load.lines_per_s, load.lines_per_s / load.lines_per_task
    reads = load.workers * BEATS_PER_S + REFILLS_PER_S
    roster = (load.workers, load.tasks_held)
    # Half of the lines of a batch are recorded at a time, on average.
    repair_s = load.batches * costs.counts_s / 2
    refill_s = load.batches * costs.refill_s_per_batch + costs.roster_reader_s.of(*roster)
    return {
        "calls in flight": lines * load.call_s / (load.workers * load.concurrency),
        "window": lines * load.call_s / load.window,
        "worker": lines / load.workers * costs.worker_s_per_line + BEATS_PER_S * costs.roster_reader_s.of(*roster),
        "control": lines * costs.control_s_per_line + tasks * costs.control_s_per_task + REFILLS_PER_S * refill_s,
        "repair tick": repair_s / REPAIR_EVERY_S,
        "web": lines * costs.web_s_per_line,
        "Redis CPU": tasks * costs.redis_s_per_task
        + load.workers * costs.redis_s_per_idle_worker
        + reads * costs.roster_redis_s.of(*roster),
        "Redis network": reads * costs.roster_bytes.of(*roster) / NETWORK_BYTES_PER_S,
        "Redis clients": (costs.redis_clients_fixed + load.workers * costs.redis_clients_per_worker)
        / REDIS_MAX_CLIENTS,
        "PostgreSQL connections": (
            costs.postgres_connections_fixed + load.workers * costs.postgres_connections_per_worker
        )
        / POSTGRES_MAX_CONNECTIONS,
        "PostgreSQL CPU": (
            lines * costs.postgres_s_per_line
            + (load.commits_per_s + load.workers * BEATS_PER_S) * costs.postgres_s_per_commit
            + repair_s / REPAIR_EVERY_S
        )
        / postgres_cores,
        "row of a batch": load.commits_per_s / load.batches / costs.commits_per_s_of_a_batch,
        "deleting results": lines / DELETES_PER_S,
    }


def most_lines_per_s(load: Load, costs: Costs, resource: str) -> float:
    """Return the rate at which the resource is used up; 0 where it is without a line, infinity where it never is."""
    return _largest(lambda rate: used(replace(load, lines_per_s=rate), costs)[resource], _MOST_LINES_PER_S)


def most_workers(load: Load, costs: Costs, resource: str, largest: int = 100_000) -> float:
    """Return how many workers use up the resource at the load's rate; infinity where even `largest` don't."""
    return _largest(lambda count: used(replace(load, workers=max(1, int(count))), costs)[resource], largest)


def _largest(share: Callable[[float], float], end: float) -> float:
    low, high = 0.0, float(end)
    if share(high) <= 1:
        return float("inf")
    if share(low) > 1:
        return 0.0
    while high - low > max(1e-3 * high, 0.5):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) <= 1 else (low, middle)
    return low
