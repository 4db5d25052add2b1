"""The latency of health and of a create beside 600 callers that send or read a byte every 50 ms with a valid key."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil

from bench.drips import KINDS, dripping
from bench.processes import API_KEY, Deployment, deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests

_CALLERS = 600
_FOR_S = 20.0
_PAUSE_S = 0.02
# By then the first callers have fallen behind the pace, and connect again.
_SETTLE_S = 3.0
_MAX_HEALTH_S = 0.2
_MAX_CREATE_S = 1.0
_BIG_BYTES = 200 * 1024 * 1024


def measure(key: str, folder: Path) -> list[Row]:
    """Return a row per way to drip, and a row without drips for comparison."""
    path = folder / "requests.jsonl"
    write_requests(path, 1)
    with upstream(folder) as url, deployment(folder / "data", url) as deployed, _client(deployed) as client:
        file_id = client.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", path.read_bytes())}
        ).json()["id"]
        big = client.post(
            "/v1/files", data={"purpose": "assistants"}, files={"file": ("big.bin", bytes(_BIG_BYTES))}
        ).json()["id"]
        address = str(client.base_url).rstrip("/")
        rows = [_row(key, "nobody drips", deployed, client, file_id)]
        for kind in KINDS:
            with dripping(address, API_KEY, kind, _CALLERS, f"/v1/files/{big}/content"):
                rows.append(_row(key, f"{_CALLERS} drip: {kind}", deployed, client, file_id))
        return rows


def _row(key: str, what: str, deployed: Deployment, client: httpx.Client, file_id: str) -> Row:
    time.sleep(_SETTLE_S)
    web = psutil.Process(deployed.pid_of("web"))
    began_at, used_s = time.monotonic(), _used_s(web)
    asked = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    health: list[float] = []
    creates: list[float] = []
    while time.monotonic() - began_at < _FOR_S:
        # Fresh connections, like the connections of a monitor and of a new caller.
        with _fresh(client) as fresh:
            health.append(_taken_s(lambda: fresh.get("/healthz")))
        with _fresh(client) as fresh:
            creates.append(_taken_s(lambda: fresh.post("/v1/batches", json=asked)))
        time.sleep(_PAUSE_S)
    share = (_used_s(web) - used_s) / (time.monotonic() - began_at)
    health_s, create_s = _p99(health), _p99(creates)
    memory = sum(one.memory_info().rss for one in (web, *web.children()))
    return Row(
        key,
        f"{what}: p99 of /healthz; of a create",
        f"{health_s:.3f} s; {create_s:.3f} s",
        f"≤ {_MAX_HEALTH_S:g} s; ≤ {_MAX_CREATE_S:g} s",
        health_s <= _MAX_HEALTH_S and create_s <= _MAX_CREATE_S,
        [f"{what}: of {len(health)} each; web used {share:.2f} of a core and {memory / 2**20:.0f} MiB"],
        {"health_s": health, "create_s": creates},
        [
            Mark(f"{what}: /healthz, p99", health_s, _MAX_HEALTH_S, is_most=True, unit="s"),
            Mark(f"{what}: a create, p99", create_s, _MAX_CREATE_S, is_most=True, unit="s"),
        ],
    )


@contextlib.contextmanager
def _client(deployed: Deployment) -> Iterator[httpx.Client]:
    address = deployed.url.removesuffix("/v1")
    headers = {"authorization": f"Bearer {API_KEY}"}
    with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
        yield client


def _fresh(client: httpx.Client) -> httpx.Client:
    return httpx.Client(base_url=client.base_url, headers=client.headers, trust_env=False, timeout=30)


def _taken_s(ask: Callable[[], httpx.Response]) -> float:
    began = time.perf_counter()
    ask().raise_for_status()
    return time.perf_counter() - began


def _used_s(web: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in (web, *web.children()))


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]
