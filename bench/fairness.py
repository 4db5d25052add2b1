"""Rows k and l, fairness: the time of ten lines behind 30,000, and the accuracy of two tenants' weights.

`python -m bench.fairness` prints the rows, and row l in harder cases too.
"""

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from app.adapters.db.api_key_store import SqlKeyStore
from app.adapters.db.engine import open_engine
from app.domain.api_key import ApiKey, keyed_hash, new_key_id, plain_hash
from bench.processes import API_KEY, Deployment, deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests

CAPACITY = 128
LATENCY_MS = 200
# Two workers' calls slightly exceed the upstream's capacity, as the documentation advises operators.
CONCURRENCY = 72
MAX_SMALL_S = 3.0
GOAL_SMALL_S = 1.0
MAX_OFF = 0.10
GOAL_OFF = 0.05
WEIGHTS = {"heavy": 3, "light": 1}
SPAN_S = 10.0

_ENDPOINT = "/v1/chat/completions"
# A batch's row counts its results from its end on, and its sections count them until then.
_COUNTS = (
    "SELECT tenant_id, completed, failed, 0 AS total FROM sections "
    "UNION ALL SELECT tenant_id, completed, failed, total FROM batches"
)
_RECORDED = f"SELECT tenant_id, SUM(completed + failed) FROM ({_COUNTS}) GROUP BY tenant_id"
_LEFT = f"SELECT tenant_id, SUM(total - completed - failed) FROM ({_COUNTS}) GROUP BY tenant_id"
_POLL_S = 0.02
_SAMPLE_S = 0.1
_WITHIN_S = 60.0
# Time for the first calls and for full windows: the behaviour before is not typical.
_SETTLE_S = 3.0
_APART_S = 1.5


@dataclass(frozen=True)
class SmallBehindLarge:
    """Seconds from create to completed per small batch, and the used share of the upstream meanwhile."""

    seconds: list[float]
    used: float

    @property
    def worst_s(self) -> float:
        """The seconds of the slowest batch."""
        return max(self.seconds)


@dataclass(frozen=True)
class TwoTenants:
    """Lines done by tenant, their ratio overall, and the ratio of the 10 s furthest from the weights' ratio."""

    lines: dict[str, int]
    ratio: float
    worst_ratio: float
    used: float

    @property
    def worst_off(self) -> float:
        """The distance of `worst_ratio` from the weights' ratio, as a fraction."""
        wanted = WEIGHTS["heavy"] / WEIGHTS["light"]
        return max(self.worst_ratio / wanted, wanted / self.worst_ratio) - 1


@dataclass(frozen=True)
class Sample:
    """Lines recorded by tenant at a moment."""

    at_s: float
    done: dict[str, int]


def small_behind_large(folder: Path, *, lines: int = 30_000, small: int = 10, rounds: int = 5) -> SmallBehindLarge:
    """Submit batches of `small` lines in turn, while a batch of `lines` lines runs."""
    with _running(folder) as (deployed, stats_url), _client(deployed, API_KEY) as client:
        _submit(client, _requests(folder, small))  # The first batch pays for imports.
        _submit(client, _requests(folder, lines))
        time.sleep(_SETTLE_S)
        before = _stats(stats_url)
        seconds = [_seconds_of_one(client, _requests(folder, small)) for _ in range(rounds)]
        after = _stats(stats_url)
        if _lines_left(deployed) < CAPACITY:
            raise RuntimeError("The large batch had ended before the small ones: give it more lines.")
    return SmallBehindLarge(seconds, _used(before, after))


def two_tenants(folder: Path, *, heavy: Sequence[int], light: Sequence[int], seconds: float = 30.0) -> TwoTenants:
    """Run batches of the given numbers of lines per tenant at the same time, for `seconds`."""
    weights = ",".join(f"{tenant}={weight}" for tenant, weight in WEIGHTS.items())
    with _running(folder, {"WYLON_TENANT_WEIGHTS": weights}) as (deployed, stats_url):
        for tenant, sizes in (("heavy", heavy), ("light", light)):
            _let_in(deployed, tenant)
            with _client(deployed, _key(tenant)) as client:
                for size in sizes:
                    _submit(client, _requests(folder, size))
        time.sleep(_SETTLE_S)
        before = _stats(stats_url)
        samples = list(_samples(deployed, seconds))
        used = _used(before, _stats(stats_url))
        if any(left < CAPACITY for left in _left_by_tenant(deployed).values()):
            raise RuntimeError("A tenant ran out of lines: give it more, or measure for less time.")
    first, last = samples[0].done, samples[-1].done
    done = {tenant: last[tenant] - first[tenant] for tenant in WEIGHTS}
    return TwoTenants(done, done["heavy"] / done["light"], worst_ratio(samples), used)


def worst_ratio(samples: Sequence[Sample]) -> float:
    """Return the ratio of lines done in the 10 s furthest from the weights' ratio."""
    wanted = WEIGHTS["heavy"] / WEIGHTS["light"]
    ratios, start = [], 0
    for sample in samples:
        while sample.at_s - samples[start + 1].at_s >= SPAN_S if start + 1 < len(samples) else False:
            start += 1
        if sample.at_s - samples[start].at_s >= SPAN_S:
            heavy, light = (sample.done[tenant] - samples[start].done[tenant] for tenant in WEIGHTS)
            ratios.append(heavy / max(light, 1))
    return max(ratios, key=lambda ratio: max(ratio / wanted, wanted / max(ratio, 1e-9)))


@contextmanager
def _running(folder: Path, settings: dict[str, str] | None = None) -> Iterator[tuple[Deployment, str]]:
    with (
        upstream(folder, "--capacity", str(CAPACITY), "--latency-ms", str(LATENCY_MS)) as url,
        deployment(folder / "data", url, "--concurrency", str(CONCURRENCY), settings=settings) as deployed,
    ):
        yield deployed, f"{url.removesuffix('/v1')}/stats"


def _client(deployed: Deployment, key: str) -> httpx.Client:
    return httpx.Client(base_url=deployed.url, headers={"authorization": f"Bearer {key}"}, timeout=120, trust_env=False)


def _key(tenant: str) -> str:
    return f"wy-{tenant}"


def _let_in(deployed: Deployment, tenant: str) -> None:
    engine = open_engine(f"sqlite:///{deployed.data / 'wylon.db'}")
    secret = bytes.fromhex((deployed.data / "secret").read_text())
    key = ApiKey(new_key_id(), tenant, tenant, "…", time.time())
    SqlKeyStore(engine).add(key, keyed_hash(secret, plain_hash(_key(tenant))))
    engine.dispose()


def _requests(folder: Path, lines: int) -> Path:
    path = folder / f"requests-{lines}.jsonl"
    if not path.exists():
        write_requests(path, lines)
    return path


def _submit(client: httpx.Client, path: Path) -> str:
    with path.open("rb") as file:
        answer = client.post("/files", data={"purpose": "batch"}, files={"file": (path.name, file)})
    return _create(client, answer.raise_for_status().json()["id"])


def _create(client: httpx.Client, file_id: str) -> str:
    wanted = {"input_file_id": file_id, "endpoint": _ENDPOINT, "completion_window": "24h"}
    return str(client.post("/batches", json=wanted).raise_for_status().json()["id"])


def _seconds_of_one(client: httpx.Client, path: Path) -> float:
    with path.open("rb") as file:
        answer = client.post("/files", data={"purpose": "batch"}, files={"file": (path.name, file)})
    began_at = time.monotonic()
    batch_id = _create(client, answer.raise_for_status().json()["id"])
    while time.monotonic() - began_at < _WITHIN_S:
        batch = client.get(f"/batches/{batch_id}").json()
        if batch["status"] == "completed":
            took_s = time.monotonic() - began_at
            time.sleep(_APART_S)
            return took_s
        time.sleep(_POLL_S)
    raise TimeoutError(f"The small batch did not complete within {_WITHIN_S:g} s: {json.dumps(batch)}")


def _samples(deployed: Deployment, seconds: float) -> Iterator[Sample]:
    began_at = time.monotonic()
    with closing(sqlite3.connect(f"file:{deployed.data / 'wylon.db'}?mode=ro", uri=True)) as database:
        while (at_s := time.monotonic() - began_at) < seconds:
            rows = database.execute(_RECORDED)
            yield Sample(at_s, dict.fromkeys(WEIGHTS, 0) | dict(rows.fetchall()))
            time.sleep(_SAMPLE_S)


def _left_by_tenant(deployed: Deployment) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{deployed.data / 'wylon.db'}?mode=ro", uri=True)) as database:
        rows = database.execute(_LEFT)
        return dict(rows.fetchall())


def _lines_left(deployed: Deployment) -> int:
    return sum(_left_by_tenant(deployed).values())


def _stats(url: str) -> dict[str, float]:
    stats: dict[str, float] = httpx.get(url, trust_env=False, timeout=10).json()
    return stats


def _used(before: dict[str, float], after: dict[str, float]) -> float:
    return (after["busy_s"] - before["busy_s"]) / (CAPACITY * (after["elapsed_s"] - before["elapsed_s"]))


def _small(folder: Path) -> tuple[str, object]:
    found = small_behind_large(folder)
    said = ", ".join(f"{seconds:.2f}" for seconds in found.seconds)
    return (
        f"10 lines behind 30,000: {said} s; bar {MAX_SMALL_S:g} s, goal {GOAL_SMALL_S:g} s; used {found.used:.3f}",
        found,
    )


def _tenants(name: str, heavy: Sequence[int], light: Sequence[int]) -> Callable[[Path], tuple[str, object]]:
    def measure(folder: Path) -> tuple[str, object]:
        found = two_tenants(folder, heavy=heavy, light=light)
        said = f"{found.ratio:.3f}, worst 10 s {found.worst_ratio:.3f}, off by {found.worst_off:.1%}"
        return f"two tenants 3:1, {name}: {said}; bar {MAX_OFF:.0%}, goal {GOAL_OFF:.0%}; used {found.used:.3f}", found

    return measure


def measure_small(key: str, folder: Path) -> Row:
    """Return the row of ten lines behind 30,000."""
    found = small_behind_large(folder)
    return Row(
        key,
        "10 lines behind 30,000, create → completed, the slowest of five",
        f"{found.worst_s:.2f} s",
        f"≤ {MAX_SMALL_S:g} s",
        found.worst_s <= MAX_SMALL_S,
        [f"seconds: {', '.join(f'{seconds:.2f}' for seconds in found.seconds)}; capacity used: {found.used:.3f}"],
        asdict(found),
        [Mark("10 lines behind 30,000", found.worst_s, MAX_SMALL_S, is_most=True, unit="s")],
    )


def measure_tenants(key: str, folder: Path) -> Row:
    """Return the row of two tenants, with a batch of 30,000 lines per tenant."""
    found = two_tenants(folder, heavy=[30_000], light=[30_000])
    return Row(
        key,
        "two tenants, weights 3:1, the worst 10 s",
        f"{found.worst_ratio:.2f}, off by {found.worst_off:.1%}",
        f"≤ {MAX_OFF:.0%}",
        found.worst_off <= MAX_OFF,
        [f"over all {found.ratio:.2f}; capacity used: {found.used:.3f}"],
        asdict(found),
        [Mark("two tenants, off by", found.worst_off * 100, MAX_OFF * 100, is_most=True, unit="%")],
    )


MEASUREMENTS = {
    "small": _small,
    "one-each": _tenants("a batch of 30,000 each", [30_000], [30_000]),
    "task-sizes": _tenants("30 lines a task and 1", [30_000], [1_000] * 12),
    "many": _tenants("one batch and 100 batches", [30_000], [200] * 100),
}


def main() -> None:
    """Run and print the chosen measurements."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(MEASUREMENTS), default=list(MEASUREMENTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    given = parser.parse_args()
    figures = {}
    for name in given.only:
        with tempfile.TemporaryDirectory(prefix="wylon-bench-") as folder:
            said, found = MEASUREMENTS[name](Path(folder))
        print(said, flush=True)
        figures[name] = asdict(found)  # type: ignore[call-overload]
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
