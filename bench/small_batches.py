"""Rows r and s: many batches of five lines, and how long creates and looks take, on SQLite and on PostgreSQL."""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, text

from app.adapters.db.engine import open_engine, reading
from bench.bare_http import BareCaller
from bench.footprint import cpu_between, read_footprints, read_memory_mib
from bench.processes import Deployment, deployment, upstream
from bench.report import Mark, Row, by_process
from bench.requests_file import write_requests
from bench.scaling_postgres import durable_postgres

MIN_BATCHES_PER_S = 120.0
MAX_MEMORY_MIB = 300.0
MAX_MS = {"create alone p50": 3.0, "beside others p95": 15.0, "of eight callers p99": 50.0, "GET p50": 1.5}
_LINES = 5
_CREATORS = 8
_ENDPOINT = "/v1/chat/completions"
_WITHIN_S = 600.0
_LOOK_EVERY_S = 0.1


def measure_batches(key: str, folder: Path, *, batches: int) -> Row:
    """Create batches from eight connections; the time from the first create to the last `completed`."""
    figures: dict[str, float] = {}
    memory: dict[str, float] = {}
    notes = []
    with upstream(folder) as url:
        for name, deployed, engine in _deployments(folder, url):
            house = _House(deployed, engine, folder)
            house.create_many(house.upload(_CREATORS))
            house.await_completed(_CREATORS)
            files = house.upload(batches)
            before = read_footprints(deployed)
            began_at = time.time()
            house.create_many(files)
            created_s = time.time() - began_at
            memory[name] = read_memory_mib(deployed)
            house.await_completed(_CREATORS + batches)
            figures[name] = batches / (house.ended_at() - began_at)
            spent = cpu_between(before, read_footprints(deployed))
            # The supervisor's figure holds those of its children.
            each_ms = {process: cpu_s / batches * 1_000 for process, cpu_s in spent.items() if process != "up"}
            notes.append(f"{name}: {figures[name]:.1f} batches/s; all created after {created_s:.1f} s")
            notes.append(f"{name}: memory of all processes under load, PSS: {memory[name]:.0f} MiB")
            notes.append(by_process(f"{name}: CPU of a batch, {sum(each_ms.values()):.1f} in all", each_ms, "ms"))
    return Row(
        key,
        f"{batches:,} batches of {_LINES} lines, {_CREATORS} creators, a second: {'; '.join(figures)}; all memory, PSS",
        f"{'; '.join(f'{rate:.0f}' for rate in figures.values())}; {max(memory.values()):.0f} MiB",
        f"≥ {MIN_BATCHES_PER_S:g} each; ≤ {MAX_MEMORY_MIB:g} MiB",
        all(rate >= MIN_BATCHES_PER_S for rate in figures.values()) and max(memory.values()) <= MAX_MEMORY_MIB,
        notes,
        {"batches_per_s": figures, "memory_mib": memory},
        [
            *(Mark(f"small batches a second, {name}", rate, MIN_BATCHES_PER_S) for name, rate in figures.items()),
            Mark("memory of all processes", max(memory.values()), MAX_MEMORY_MIB, is_most=True, unit="MiB"),
        ],
    )


def measure_calls(key: str, folder: Path, *, creates: int) -> Row:
    """Measure creates alone, beside 200 small batches and by eight callers, and looks at a batch."""
    figures: dict[str, dict[str, float]] = {}
    with upstream(folder) as url:
        for name, deployed, engine in _deployments(folder, url):
            house = _House(deployed, engine, folder)
            house.create_many(house.upload(_CREATORS))
            house.await_completed(_CREATORS)
            alone = house.create_in_turn(house.upload(creates // 5), pause_s=0.1)
            house.await_all_ended()
            files = house.upload(creates)
            others = house.upload(creates // 5)
            with ThreadPoolExecutor(1) as thread:
                running = thread.submit(house.create_many, files)
                beside = house.create_in_turn(others, pause_s=0.01)
                running.result()
            house.await_all_ended()
            of_eight = house.create_many(house.upload(creates))
            house.await_all_ended()
            looks = house.look(creates)
            parts = ((alone, 50), (beside, 95), (of_eight, 99), (looks, 50))
            measured = (_percentile(taken, percent) for taken, percent in parts)
            figures[name] = dict(zip(MAX_MS, measured, strict=True))
    return Row(
        key,
        f"ms of a create alone, p50; beside {creates} small batches, p95; of {_CREATORS} callers, p99; GET, p50",
        " | ".join(f"{name} {'; '.join(f'{ms:.1f}' for ms in each.values())}" for name, each in figures.items()),
        "; ".join(f"≤ {bar:g}" for bar in MAX_MS.values()),
        all(each[what] <= bar for each in figures.values() for what, bar in MAX_MS.items()),
        [],
        dict(figures),
        [
            Mark(f"{what}, {name}", each[what], bar, is_most=True, unit="ms")
            for name, each in figures.items()
            for what, bar in MAX_MS.items()
        ],
    )


class _House:
    """A deployment, and the callers of its API."""

    def __init__(self, deployed: Deployment, engine: Engine, folder: Path) -> None:
        self._url = deployed.url
        self._engine = engine
        path = folder / "five.jsonl"
        write_requests(path, _LINES)
        self._lines = path.read_bytes()
        self._batch_id = ""

    def upload(self, files: int) -> list[str]:
        """Upload a file for each batch; return the ids of the files."""

        def upload_some(count: int) -> list[str]:
            with BareCaller(self._url) as caller:
                return [caller.upload("five.jsonl", self._lines) for _ in range(count)]

        with ThreadPoolExecutor(_CREATORS) as threads:
            parts = threads.map(upload_some, (files // _CREATORS + (n < files % _CREATORS) for n in range(_CREATORS)))
            return [file_id for part in parts for file_id in part]

    def create_many(self, files: list[str]) -> list[float]:
        """Create a batch of each file, from eight connections at once; return the milliseconds of each create."""
        with ThreadPoolExecutor(_CREATORS) as threads:
            parts = threads.map(self.create_in_turn, (files[n::_CREATORS] for n in range(_CREATORS)))
            return [ms for part in parts for ms in part]

    def create_in_turn(self, files: list[str], pause_s: float = 0.0) -> list[float]:
        """Create a batch of each file, from one connection; return the milliseconds of each create."""
        with BareCaller(self._url) as caller:
            return [self._timed(partial(self._create, caller, file_id), pause_s) for file_id in files]

    def look(self, times: int) -> list[float]:
        """Look at a batch again and again; return the milliseconds of each look."""
        with BareCaller(self._url) as caller:
            return [self._timed(lambda: caller.get(f"/batches/{self._batch_id}"), 0.0) for _ in range(times)]

    def await_completed(self, batches: int) -> None:
        self._await(f"SELECT count(*) >= {batches} FROM batches WHERE status = 'completed'")

    def await_all_ended(self) -> None:
        self._await("SELECT count(*) = 0 FROM batches WHERE status <> 'completed'")

    def ended_at(self) -> float:
        """Return when the last batch was completed."""
        with reading(self._engine) as connection:
            return float(connection.scalar(text("SELECT max(completed_at) FROM batches")) or 0)

    def _create(self, caller: BareCaller, file_id: str) -> None:
        wanted = {"input_file_id": file_id, "endpoint": _ENDPOINT, "completion_window": "24h"}
        self._batch_id = caller.post("/batches", wanted)["id"]

    def _timed(self, call: Callable[[], object], pause_s: float) -> float:
        if pause_s:
            time.sleep(pause_s)
        began_at = time.perf_counter()
        call()
        return (time.perf_counter() - began_at) * 1_000

    def _await(self, query: str) -> None:
        deadline = time.monotonic() + _WITHIN_S
        while True:
            with reading(self._engine) as connection:
                if connection.scalar(text(query)):
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not so within {_WITHIN_S:g} s: {query}")
            time.sleep(_LOOK_EVERY_S)


def _deployments(folder: Path, url: str) -> Iterator[tuple[str, Deployment, Engine]]:
    """Yield a deployment on SQLite, then a deployment on PostgreSQL."""
    data = folder / "sqlite"
    with deployment(data, url) as deployed, _opened(f"sqlite:///{data / 'wylon.db'}") as engine:
        yield "SQLite", deployed, engine
    with durable_postgres() as server:
        database = server.database_url()
        settings = {"WYLON_DATABASE_URL": database}
        with deployment(folder / "postgres", url, settings=settings) as deployed, _opened(database) as engine:
            yield "PostgreSQL", deployed, engine


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
