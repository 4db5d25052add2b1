"""Many batches: 10,000 batches run, 100 batches end at once, a million batches ended long ago.

`WYLON_STRAIN_PART=0.1` makes the numbers a tenth: enough to test the measurement, not for figures.
"""

import os
import signal
import statistics
import threading
import time
from pathlib import Path

from sqlalchemy import Engine, text

from app.adapters.db.engine import open_engine
from app.config import load_settings
from app.wiring.setup import prepare
from bench.batch_run import BatchRun, require_completed
from bench.old_batches import add_ended
from bench.processes import Deployment, deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests

_PART = float(os.environ.get("WYLON_STRAIN_PART", "1"))
_WITHIN_S = 3_600.0
_RUNNING_LINES, _ENDING_LINES = 50, 500


def measure_running(key: str, folder: Path) -> list[Row]:
    """Measure a new batch of 5 lines beside 10,000 running batches of the same tenant."""
    count = int(10_000 * _PART)
    with upstream(folder, "--latency-ms", "1000") as url, deployment(folder / "data", url) as deployed:
        engine = open_engine(f"sqlite:///{deployed.data / 'wylon.db'}")
        with BatchRun(deployed, _file(folder, _RUNNING_LINES)) as many:
            for _ in range(count):
                many.create()
            _await(engine, "status = 'validating'", 0)
        taken = [_small(deployed, folder, 5) for _ in range(5)]
        engine.dispose()
    return [_row(key, f"a new batch of 5 lines, worst of 5, beside {count:,} that run", max(taken), 3.0, "s")]


def measure_ending(key: str, folder: Path) -> list[Row]:
    """Measure a running batch, and a new batch of 10 lines, while 100 batches with results of 20 kB end at once."""
    count = int(100 * _PART)
    are_recorded = f"total = {_ENDING_LINES} AND stage = 'in_progress'"
    with upstream(folder, "--latency-ms", "200") as url, deployment(folder / "data", url) as deployed:
        engine = open_engine(f"sqlite:///{deployed.data / 'wylon.db'}")
        files = deployed.pid_of("files") or 0
        with (
            BatchRun(deployed, _file(folder, 50_000)) as running,
            BatchRun(deployed, _file(folder, _ENDING_LINES, 20_000)) as ending,
        ):
            running.create()
            for _ in range(count):
                ending.create()
            _await(engine, "status = 'validating'", 0)
            # Stop the files process until the batches are recorded, so that the batches end at once.
            os.kill(files, signal.SIGSTOP)
            try:
                _await(engine, are_recorded, 0)
                pace = _Pace(engine, running.id)
                time.sleep(10)
                alone = pace.read()
            finally:
                os.kill(files, signal.SIGCONT)
            new_s = _small(deployed, folder, 10)
            _await(engine, "status <> 'completed'", 1)
            beside = pace.read()
            pace.stop()
        engine.dispose()
    share = min(beside) / statistics.median(alone)
    what = f"{count} batches of {_ENDING_LINES} results of 20 kB end"
    return [
        _row(key, f"{what}: slowest second of a running batch, of its pace", share, 0.5, "", is_most=False),
        _row(key, f"{what}: a new batch of 10 lines", new_s, 2.0, "s"),
    ]


def measure_old(key: str, folder: Path) -> list[Row]:
    """Measure creates beside running lines, in a new database and in a database with a million ended batches."""
    fresh = _creates(folder / "fresh", 0)
    old = _creates(folder / "old", int(1_000_000 * _PART))
    creates = sorted(old[0])
    worst = creates[int(len(creates) * 0.999)]
    return [
        _row(key, "10⁶ ended batches: p99.9 of creates", worst, 0.3, "s"),
        _row(key, "10⁶ ended batches: lines beside them, of the time in a new database", old[1] / fresh[1], 1.1, ""),
    ]


def _creates(folder: Path, ended: int) -> tuple[list[float], float]:
    folder.mkdir()
    url = f"sqlite:///{folder / 'old.db'}"
    settings = {"WYLON_DATABASE_URL": url}
    # The storage is marked while the database has no files: later an empty folder would be taken for a wrong one.
    named = {"WYLON_DATA": str(folder / "data"), "WYLON_UPSTREAM_URL": "http://127.0.0.1:1/v1"}
    prepare(load_settings(named | settings))
    engine = open_engine(url)
    add_ended(engine, ended)
    engine.dispose()
    lines, taken = int(50_000 * _PART), []
    with (
        upstream(folder) as address,
        deployment(folder / "data", address, settings=settings) as deployed,
        BatchRun(deployed, _file(folder, lines)) as running,
        BatchRun(deployed, _file(folder, 1)) as one,
    ):
        running.create()
        for _ in range(int(5_000 * _PART)):
            began_at = time.monotonic()
            one.create()
            taken.append(time.monotonic() - began_at)
        require_completed(running.wait(_WITHIN_S), lines)
        return taken, running.elapsed_s


class _Pace:
    """Counts the done lines of a batch every second."""

    def __init__(self, engine: Engine, batch_id: str) -> None:
        self._engine = engine
        self._batch_id = batch_id
        self._lines: list[int] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def read(self) -> list[int]:
        """Return the lines done in every second since the last call."""
        read, self._lines = self._lines, []
        return read

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _count(self) -> None:
        before = self._completed()
        while not self._stopping.wait(1.0):
            now = self._completed()
            self._lines.append(now - before)
            before = now

    def _completed(self) -> int:
        of_batch = f"batch_id = '{self._batch_id}'"
        return _number(self._engine, f"SELECT coalesce(sum(completed), 0) FROM sections WHERE {of_batch}")


def _small(deployed: Deployment, folder: Path, lines: int) -> float:
    with BatchRun(deployed, _file(folder, lines)) as few:
        few.create()
        require_completed(few.wait(_WITHIN_S), lines)
        return few.times().total_s


def _file(folder: Path, lines: int, bytes_per_line: int = 0) -> Path:
    path = folder / f"requests-{lines}.jsonl"
    write_requests(path, lines, bytes_per_line)
    return path


def _await(engine: Engine, condition: str, most: int) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while _number(engine, f"SELECT count(*) FROM batches WHERE {condition}") > most:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Still more than {most} batches with {condition}.")
        time.sleep(0.2)


def _number(engine: Engine, query: str) -> int:
    with engine.connect().execution_options(is_reading=True) as connection:
        return int(connection.scalar(text(query)) or 0)


def _row(key: str, what: str, value: float, bar: float, unit: str, *, is_most: bool = True) -> Row:
    is_met = value <= bar if is_most else value >= bar
    sign = "≤" if is_most else "≥"
    mark = Mark(what, value, bar, is_most=is_most, unit=unit)
    return Row(key, what, f"{value:.2f} {unit}", f"{sign} {bar:g} {unit}", is_met, [], {"value": value}, [mark])
