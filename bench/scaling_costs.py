"""The unit costs of this machine, from real runs and from single steps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.config import load_settings
from bench.processes import deployment, upstream
from bench.scaling_model import MAX_RUNNING, Costs, RosterCost
from bench.scaling_parts import RosterRead, StoreReads, commit_rate, read_roster, read_stores
from bench.scaling_postgres import durable_postgres
from bench.scaling_run import WORKERS, Spent, measure_run

_MANY_WORKERS = 1_000
_FEW_TASKS, _MANY_TASKS = 3, 128
_ROWS = 50_000
# The latency of a model's quick answer: a worker's commits carry a few lines.
_SLOW_MS = 500
_MORE_WORKERS = 6


@dataclass(frozen=True)
class Measured:
    """The costs for the model, and the measurements behind the costs."""

    costs: Costs
    # Of two workers and of six.
    idle: tuple[Spent, Spent]
    runs: dict[str, Spent]
    roster: list[RosterRead]
    stores: dict[str, StoreReads]
    commits_per_s: dict[str, float]


def measure_costs(folder: Path, *, lines: int, tell: Callable[[str], None]) -> Measured:
    """Measure the costs, in about four minutes with 20,000 lines."""
    runs: dict[str, Spent] = {}
    tell("SQLite, a model that answers at once")
    _, runs["SQLite, fast model"] = measure_run(folder / "a", lines=lines)
    with durable_postgres() as postgres:
        tell("PostgreSQL, a model that answers at once")
        idle, runs["PostgreSQL, fast model"] = measure_run(folder / "b", lines=lines, postgres=postgres)
        tell("PostgreSQL, a slow model")
        some = max(lines // 4, 1_000)
        _, runs["PostgreSQL, slow model"] = measure_run(
            folder / "c", lines=some, latency_ms=_SLOW_MS, postgres=postgres
        )
        tell("PostgreSQL, a slow model, more workers")
        idle_more, runs["PostgreSQL, slow model, 6 workers"] = measure_run(
            folder / "d", lines=some, latency_ms=_SLOW_MS, postgres=postgres, workers=_MORE_WORKERS
        )
        tell("PostgreSQL, one line a task")
        one_line = {"WYLON_LINES_PER_TASK": "1"}
        _, runs["PostgreSQL, one line a task"] = measure_run(
            folder / "e", lines=max(lines // 5, 1_000), postgres=postgres, settings=one_line
        )
        tell("single steps")
        stores = {
            "SQLite": read_stores(f"sqlite:///{folder}/steps.db", batches=MAX_RUNNING, rows=_ROWS),
            "PostgreSQL": read_stores(postgres.database_url(), batches=MAX_RUNNING, rows=_ROWS),
        }
        commits = {
            "SQLite, one batch": commit_rate(f"sqlite:///{folder}/commits.db", batches=1),
            "PostgreSQL, one batch": commit_rate(postgres.database_url(), batches=1),
            "PostgreSQL, four batches": commit_rate(postgres.database_url(), batches=4),
        }
    roster = _read_rosters(folder / "roster")
    costs = _costs((idle, idle_more), runs, roster, stores["PostgreSQL"], commits["PostgreSQL, one batch"])
    return Measured(costs, (idle, idle_more), runs, roster, stores, commits)


def _read_rosters(folder: Path) -> list[RosterRead]:
    folder.mkdir()
    with upstream(folder) as url, deployment(folder / "data", url) as deployed:
        settings = load_settings(deployed.environ())
        sizes = [(1, _FEW_TASKS), (100, _FEW_TASKS), (_MANY_WORKERS, _FEW_TASKS), (_MANY_WORKERS, _MANY_TASKS)]
        return [read_roster(settings, workers, held) for workers, held in sizes]


def _costs(
    idle: tuple[Spent, Spent],
    runs: dict[str, Spent],
    roster: list[RosterRead],
    stores: StoreReads,
    commits_per_s: float,
) -> Costs:
    fast, slow = runs["PostgreSQL, fast model"], runs["PostgreSQL, slow model"]
    more, one = runs["PostgreSQL, slow model, 6 workers"], runs["PostgreSQL, one line a task"]
    tasks = -(-fast.lines // -(-fast.lines // 1_000))
    control = solve_two((fast.lines, tasks, fast.cpu_s["control"]), (one.lines, one.lines, one.cpu_s["control"]))
    postgres = solve_two(
        (fast.lines, fast.commits, fast.cpu_s["postgres"]), (slow.lines, slow.commits, slow.cpu_s["postgres"])
    )
    added = _MORE_WORKERS - WORKERS
    # Too few commands to show in CPU time: assume the cost of a command under load.
    commands = (idle[1].redis_total / idle[1].seconds - idle[0].redis_total / idle[0].seconds) / added
    clients = (more.redis_clients - slow.redis_clients) / added
    connections = (more.postgres_connections - slow.postgres_connections) / added
    return Costs(
        worker_s_per_line=slow.cpu_s["worker"] / slow.lines,
        control_s_per_line=control[0],
        control_s_per_task=control[1],
        refill_s_per_batch=stores.running_s / MAX_RUNNING,
        bits_s=stores.bits_s,
        web_s_per_line=fast.cpu_s["web"] / fast.lines,
        redis_s_per_task=fast.cpu_s["broker"] / tasks,
        redis_s_per_idle_worker=commands * fast.cpu_s["broker"] / fast.redis_total,
        redis_clients_fixed=max(slow.redis_clients - WORKERS * clients, 0.0),
        redis_clients_per_worker=clients,
        roster_reader_s=roster_cost(roster, lambda read: read.reader_cpu_s),
        roster_redis_s=roster_cost(roster, lambda read: read.redis_cpu_s),
        roster_bytes=roster_cost(roster, lambda read: read.bytes_out),
        postgres_s_per_line=postgres[0],
        postgres_s_per_commit=postgres[1],
        postgres_connections_fixed=max(slow.postgres_connections - WORKERS * connections, 0.0),
        postgres_connections_per_worker=connections,
        commits_per_s_of_a_batch=commits_per_s,
    )


def solve_two(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float]:
    """Return the unit costs of two things, at least 0, from two sums of (count of first, count of second, cost)."""
    (a, b, e), (c, d, f) = first, second
    determinant = a * d - b * c
    if not determinant:
        raise ValueError("The two runs are of the same shape: they don't tell the two costs apart.")
    x, y = (e * d - b * f) / determinant, (a * f - e * c) / determinant
    # Noise may make a cost negative: then the other thing has the whole cost.
    if x < 0:
        return 0.0, max(e / b, f / d)
    if y < 0:
        return max(e / a, f / c), 0.0
    return x, y


def roster_cost(reads: list[RosterRead], of: Callable[[RosterRead], float]) -> RosterCost:
    """Return the cost by worker and task; the reads are of one worker, then of many with few and with many tasks."""
    single, few, many = of(reads[0]), of(reads[-2]), of(reads[-1])
    workers = reads[-1].workers
    per_task = max(many - few, 0.0) / workers / (_MANY_TASKS - _FEW_TASKS)
    per_worker = max((few - single) / (workers - 1) - _FEW_TASKS * per_task, 0.0)
    return RosterCost(max(single - per_worker - _FEW_TASKS * per_task, 0.0), per_worker, per_task)
