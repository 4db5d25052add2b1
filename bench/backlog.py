"""Row j: the memory of Redis while a million lines wait."""

from pathlib import Path
from typing import cast

import redis

from app.config import load_settings
from app.wiring.stores import open_bare_redis
from bench.batch_run import BatchRun
from bench.processes import deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests

MAX_MIB = 32.0
LINES_PER_BATCH = 50_000
# Slow enough to keep the backlog whole during the measurement.
_LATENCY_MS = 60_000
_ACCEPTED_WITHIN_S = 120.0
_MIB = 1024 * 1024


def measure(key: str, folder: Path, *, lines: int) -> Row:
    """Create batches until `lines` lines wait, and read the memory that Redis reports."""
    path = folder / "requests.jsonl"
    batches = -(-lines // LINES_PER_BATCH)
    write_requests(path, min(lines, LINES_PER_BATCH))
    with (
        upstream(folder, "--latency-ms", str(_LATENCY_MS)) as url,
        deployment(folder / "data", url, settings={"WYLON_DRAIN_GRACE_S": "0"}) as deployed,
    ):
        client = open_bare_redis(load_settings(deployed.environ()))
        empty = _mib(client, "used_memory")
        for _ in range(batches):
            with BatchRun(deployed, path) as run:
                run.create()
                run.wait(_ACCEPTED_WITHIN_S, until={"in_progress"})
        full = _mib(client, "used_memory")
        peak = _mib(client, "used_memory_peak")
        client.close()
    return Row(
        key,
        f"Redis with {batches * LINES_PER_BATCH:,} lines waiting",
        f"{peak:.1f} MiB at most",
        f"≤ {MAX_MIB:g} MiB",
        peak <= MAX_MIB,
        [f"{empty:.1f} MiB empty, {full:.1f} MiB with {batches} batches accepted"],
        {"empty_mib": empty, "full_mib": full, "peak_mib": peak, "batches": batches},
        [Mark("Redis with a backlog", peak, MAX_MIB, is_most=True, unit="MiB")],
    )


def _mib(client: redis.Redis, name: str) -> float:
    return float(cast("dict[str, int]", client.info("memory"))[name]) / _MIB
