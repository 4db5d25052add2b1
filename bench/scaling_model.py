"""The capacity model: the use of resources by a load, from unit costs. Arithmetic only."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import LaneState, WorkerState
from app.services.sharing import window_lines

LINES_PER_DAY = 1e8
DAY_S = 86_400.0
# The periods of background work: workers/heartbeat.py, workers/line_process.py, workers/schedule.py.
BEATS_PER_S = 1.0
REFILLS_PER_S = 20.0
REPAIR_EVERY_S = 3.0
GATHER_S = 0.04
# Upkeep deletes at most 40 × 5,000 results every 10 s.
DELETES_PER_S = 20_000.0
# Batches run side by side by dispatch.
MAX_RUNNING = 200
# The defaults of the servers, and a common network card.
REDIS_MAX_CLIENTS = 10_000
POSTGRES_MAX_CONNECTIONS = 100
NETWORK_BYTES_PER_S = 1.25e9
# The upper end of a search for the largest rate.
_MOST_LINES_PER_S = 1e7


@dataclass(frozen=True)
class RosterCost:
    """The cost of a read of the roster: `fixed`, plus a cost per worker, plus a cost per held task."""

    fixed: float
    per_worker: float
    per_task: float

    def of(self, workers: float, tasks_held: float) -> float:
        """Return the cost with `workers` workers, holding `tasks_held` tasks per worker."""
        return self.fixed + workers * (self.per_worker + tasks_held * self.per_task)


@dataclass(frozen=True)
class Costs:
    """Measured unit costs: CPU seconds, bytes and counts."""

    worker_s_per_line: float
    # Of control: the cost of a line and of a task from validation to the files, and `active(200)` with 200 batches.
    control_s_per_line: float
    control_s_per_task: float
    refill_s_per_batch: float
    # A read of which lines of a batch of 50,000 lines lack a result.
    bits_s: float
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
    # Commits per second on a batch; a commit locks the batch's row.
    commits_per_s_of_a_batch: float


@dataclass(frozen=True)
class Load:
    """A rate of lines, and the workers that run the lines."""

    workers: int
    concurrency: int
    call_s: float
    lines_per_s: float
    lines_per_task: int = 50
    batches: int = 4

    @property
    def window(self) -> int:
        """The most lines that dispatch keeps published and not recorded."""
        return window_lines([WorkerState("all", (), {DEFAULT_UPSTREAM: LaneState(self.workers * self.concurrency)})])

    @property
    def tasks_held(self) -> float:
        """Tasks held by a worker: two lines per slot, if the window has enough lines."""
        return min(2 * self.concurrency, self.window / self.workers) / self.lines_per_task

    @property
    def commits_per_s(self) -> float:
        """Transactions of the writers: a transaction takes a first result, and the results of the next 40 ms."""
        each = self.lines_per_s / self.workers
        return self.workers * each / (1 + each * GATHER_S)


def used(load: Load, costs: Costs, *, postgres_cores: int = 8) -> dict[str, float]:
    """Return the share of resources that the load uses; a load with a share above 1 can't be served.

    Every worker, control, web and Redis have a core; the database has `postgres_cores`.
    """
    lines, tasks = load.lines_per_s, load.lines_per_s / load.lines_per_task
    reads = load.workers * BEATS_PER_S + REFILLS_PER_S
    roster = (load.workers, load.tasks_held)
    repair_s = load.batches * costs.bits_s
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
    """Return the rate that uses up the resource; 0 if already used up without lines, infinity if never used up."""
    return _largest(lambda rate: used(replace(load, lines_per_s=rate), costs)[resource], _MOST_LINES_PER_S)


def most_workers(load: Load, costs: Costs, resource: str, largest: int = 100_000) -> float:
    """Return how many workers use up the resource at the load's rate; infinity if `largest` workers do not."""
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
