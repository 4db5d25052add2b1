"""Row h: the latency of `GET /v1/batches/{id}`, idle and while batches run at full speed."""

import statistics
import threading
import time
from pathlib import Path

import httpx

from bench.batch_run import BatchRun, require_completed
from bench.processes import API_KEY, Deployment, deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests

MAX_P99_MS = 50.0
_ASK_EVERY_S = 0.01
_IDLE_ASKS = 500
# In turn: a single batch lasts for some 200 requests, and the p99 would be the second slowest request.
_BATCHES = 3
_BATCH_WITHIN_S = 300.0


def measure(key: str, folder: Path, *, lines: int) -> Row:
    """Ask for an ended batch, then for three batches that run in turn, over kept connections."""
    path = folder / "requests.jsonl"
    write_requests(path, lines)
    with upstream(folder) as url, deployment(folder / "data", url) as deployed:
        with BatchRun(deployed, path) as run:
            run.create()
            require_completed(run.wait(_BATCH_WITHIN_S), lines)
            idle = _asked(deployed, run.id, threading.Event(), _IDLE_ASKS)
        busy = [taken for _ in range(_BATCHES) for taken in _asked_while_one_runs(deployed, path, lines)]
    p99_ms = _percentile(busy, 99)
    return Row(
        key,
        f"GET /v1/batches/{{id}}, p99 while {lines:,} lines run",
        f"{p99_ms:.1f} ms",
        f"≤ {MAX_P99_MS:g} ms",
        p99_ms <= MAX_P99_MS,
        [
            f"busy: p50 {_percentile(busy, 50):.1f}, max {max(busy):.1f} ms of {len(busy)}; "
            f"idle: p50 {_percentile(idle, 50):.1f}, p99 {_percentile(idle, 99):.1f} ms of {len(idle)}"
        ],
        {"busy_ms": busy, "idle_ms": idle},
        [Mark("the API under load, p99", p99_ms, MAX_P99_MS, is_most=True, unit="ms")],
    )


def _asked_while_one_runs(deployed: Deployment, path: Path, lines: int) -> list[float]:
    taken: list[float] = []
    with BatchRun(deployed, path) as run:
        run.create()
        has_ended = threading.Event()
        asking = threading.Thread(target=lambda: taken.extend(_asked(deployed, run.id, has_ended)))
        asking.start()
        try:
            require_completed(run.wait(_BATCH_WITHIN_S), lines)
        finally:
            has_ended.set()
            asking.join()
    return taken


def _asked(deployed: Deployment, batch_id: str, has_ended: threading.Event, asks: int | None = None) -> list[float]:
    """Return the milliseconds per request, until the event or for `asks` requests."""
    taken: list[float] = []
    with httpx.Client(headers={"authorization": f"Bearer {API_KEY}"}, trust_env=False, timeout=30) as client:
        while not has_ended.wait(_ASK_EVERY_S) and (asks is None or len(taken) < asks):
            began = time.perf_counter()
            client.get(f"{deployed.url}/batches/{batch_id}").raise_for_status()
            taken.append((time.perf_counter() - began) * 1_000)
    return taken


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
