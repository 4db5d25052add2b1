"""The cost of lines in a real `wylon up`: CPU by process, the work of Redis, the work of PostgreSQL."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis

from app.config import load_settings
from app.wiring.stores import open_bare_redis
from bench.batch_run import BatchRun, require_completed
from bench.footprint import cpu_between, read_footprints
from bench.processes import Deployment, deployment, upstream
from bench.requests_file import write_requests
from bench.scaling_postgres import DurablePostgres, PostgresWork

IDLE_S = 10.0
WORKERS = 2
_BATCH_WITHIN_S = 600.0


@dataclass(frozen=True)
class RedisWork:
    """The work of Redis so far."""

    commands: dict[str, int]
    bytes_in: int
    bytes_out: int
    cpu_s: float
    clients: int


@dataclass(frozen=True)
class Spent:
    """The work of a span of time in which `lines` lines were done; 0 lines if the deployment was idle."""

    lines: int
    seconds: float
    # By kind of process: `worker` is the sum of the workers.
    cpu_s: dict[str, float]
    redis_commands: dict[str, int]
    redis_bytes_in: int
    redis_bytes_out: int
    redis_clients: int
    blob_bytes: int = 0
    commits: int = 0
    wal_bytes: int = 0
    postgres_connections: int = 0

    @property
    def redis_total(self) -> int:
        """The number of commands, commands within scripts included."""
        return sum(self.redis_commands.values())


@dataclass
class _Reading:
    """The counters at a moment."""

    at: float
    footprints: Mapping[str, Any]
    redis: RedisWork
    blobs: int
    postgres: PostgresWork | None = None


def measure_run(
    folder: Path,
    *,
    lines: int,
    latency_ms: int = 0,
    postgres: DurablePostgres | None = None,
    settings: Mapping[str, str] | None = None,
    workers: int = WORKERS,
) -> tuple[Spent, Spent]:
    """Return the work of an idle deployment, and the work of a batch from its creation on."""
    folder.mkdir(parents=True)
    path = folder / "requests.jsonl"
    write_requests(path, lines)
    url = postgres.database_url() if postgres is not None else None
    environ = {**(settings or {}), **({"WYLON_DATABASE_URL": url} if url else {})}
    with (
        upstream(folder, "--latency-ms", str(latency_ms)) as model_url,
        deployment(folder / "data", model_url, "--workers", str(workers), settings=environ) as deployed,
    ):
        client = open_bare_redis(load_settings(deployed.environ()))
        before_idle = _read(deployed, client, postgres, url)
        time.sleep(IDLE_S)
        after_idle = _read(deployed, client, postgres, url)
        with BatchRun(deployed, path) as run:
            before = _read(deployed, client, postgres, url)
            run.create()
            require_completed(run.wait(_BATCH_WITHIN_S), lines)
            after = _read(deployed, client, postgres, url)
        client.close()
    return _spent(0, before_idle, after_idle), _spent(lines, before, after)


def kind_of(process: str) -> str:
    """Return the kind of a process by its name: `worker` of `worker-2`."""
    return process.rstrip("0123456789").rstrip("-")


def _read(deployed: Deployment, client: redis.Redis, postgres: DurablePostgres | None, url: str | None) -> _Reading:
    blobs = sum(path.stat().st_size for path in (deployed.data / "blobs").rglob("*") if path.is_file())
    return _Reading(
        time.monotonic(),
        read_footprints(deployed),
        read_redis(client),
        blobs,
        postgres.work(url) if postgres is not None and url is not None else None,
    )


def read_redis(client: redis.Redis) -> RedisWork:
    """Return the work of Redis so far, from INFO."""
    stats = cast("dict[str, dict[str, int]]", client.info("commandstats"))
    totals: dict[str, Any] = client.info()
    return RedisWork(
        {name.removeprefix("cmdstat_"): numbers["calls"] for name, numbers in stats.items()},
        totals["total_net_input_bytes"],
        totals["total_net_output_bytes"],
        totals["used_cpu_user"] + totals["used_cpu_sys"],
        totals["connected_clients"],
    )


def _spent(lines: int, before: _Reading, after: _Reading) -> Spent:
    cpu_s: dict[str, float] = {}
    for process, seconds in cpu_between(before.footprints, after.footprints).items():
        # Skip the supervisor: its reading includes the children.
        if process == "up":
            continue
        cpu_s[kind_of(process)] = cpu_s.get(kind_of(process), 0.0) + seconds
    first, last = before.postgres, after.postgres
    if first is not None and last is not None:
        cpu_s["postgres"] = last.cpu_s - first.cpu_s
    known = before.redis.commands
    return Spent(
        lines=lines,
        seconds=after.at - before.at,
        cpu_s=cpu_s,
        redis_commands={
            name: calls - known.get(name, 0)
            for name, calls in after.redis.commands.items()
            if calls > known.get(name, 0) and name != "info"
        },
        redis_bytes_in=after.redis.bytes_in - before.redis.bytes_in,
        redis_bytes_out=after.redis.bytes_out - before.redis.bytes_out,
        redis_clients=after.redis.clients,
        blob_bytes=after.blobs - before.blobs,
        commits=last.commits - first.commits if first and last else 0,
        wal_bytes=last.wal_bytes - first.wal_bytes if first and last else 0,
        postgres_connections=last.connections if last else 0,
    )
