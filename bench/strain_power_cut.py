"""A power cut during a validation: the time from the cut until the batch goes on."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import psutil

from app.domain.limits import MIB
from bench.batch_run import BatchRun
from bench.dear_file import write_dear_file
from bench.processes import Deployment, deployment, upstream
from bench.report import Row

T = TypeVar("T")

_WITHIN_S = 300.0
_LOOK_EVERY_S = 0.02
MAX_S = 10.0


def measure(key: str, folder: Path, *, size: int = 192 * MIB) -> list[Row]:
    """Kill every process of a deployment while a file is checked, and restart the deployment at once."""
    path, data = folder / "large.jsonl", folder / "data"
    write_dear_file(path, size, name="large")
    with upstream(folder) as url:
        with deployment(data, url) as deployed, BatchRun(deployed, path) as run:
            run.create()
            before = _until(lambda: _row(data, run.id)[1], "the validation has begun")
            _cut(deployed)
        cut_at = time.monotonic()
        if _row(data, run.id)[0] != "validating":
            raise RuntimeError("The file was checked before the cut: it is too small for this machine.")
        with deployment(data, url):
            ready_s = time.monotonic() - cut_at
            _until(lambda: _row(data, run.id)[1] not in (None, before), "another validation has begun")
            goes_on_s = time.monotonic() - cut_at
            _until(lambda: _row(data, run.id)[0] != "validating", "the file is checked")
            checked_s = time.monotonic() - cut_at
    return [
        Row(
            key,
            f"all processes killed amid the check of {size // MIB} MiB: the batch goes on",
            f"{goes_on_s:.1f} s",
            f"≤ {MAX_S:g} s",
            goes_on_s <= MAX_S,
            [f"started again after {ready_s:.1f} s, the file checked after {checked_s:.1f} s"],
            {"ready_s": ready_s, "goes_on_s": goes_on_s, "checked_s": checked_s},
        )
    ]


def _cut(deployed: Deployment) -> None:
    processes = [deployed.process, *deployed.process.children(recursive=True)]
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=30)


def _row(data: Path, batch_id: str) -> tuple[str, str | None]:
    """Return the status of a batch and the owner of its lease."""
    with closing(sqlite3.connect(f"file:{data / 'wylon.db'}?mode=ro", uri=True)) as database:
        status, owner = database.execute("SELECT status, lease_owner FROM batches WHERE id = ?", (batch_id,)).fetchone()
    return status, owner


def _until(look: Callable[[], T], what: str) -> T:
    deadline = time.monotonic() + _WITHIN_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {_WITHIN_S:g} s")
        time.sleep(_LOOK_EVERY_S)
    return found
