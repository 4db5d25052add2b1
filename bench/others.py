"""Row g: a file through wylon and through Ray Data's HTTP processor, over one upstream in a single run."""

import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from bench.batch_run import BatchRun, require_completed
from bench.processes import deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests

MIN_RATIO = 2.5
_RAY_WITHIN_S = 600.0
_BATCH_WITHIN_S = 600.0
# Without the first variable, Ray reports every start to its makers.
_RAY_ENVIRON = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


def measure(key: str, folder: Path, *, lines: int) -> Row:
    """Run wylon before and after Ray; the ratio is wylon's median to Ray's better configuration."""
    if find_spec("ray") is None:
        raise RuntimeError("Ray is not installed: run `make bench`, which installs it, or pip install 'wylon[bench]'.")
    path = folder / "requests.jsonl"
    write_requests(path, lines)
    with upstream(folder) as url:
        ours = [_wylon_rate(url, path, folder / "before", lines)]
        theirs = _ray_rates(url, path, folder)
        ours.append(_wylon_rate(url, path, folder / "after", lines))
    best = max(theirs.values())
    ratio = statistics.median(ours) / best
    return Row(
        key,
        f"{lines:,} small lines, against Ray Data's HTTP processor",
        f"{ratio:.2f} times as fast ({statistics.median(ours):,.0f} to {best:,.0f} lines/s)",
        f"≥ {MIN_RATIO:g}",
        ratio >= MIN_RATIO,
        [
            f"wylon, lines/s: {', '.join(f'{rate:,.0f}' for rate in ours)}",
            f"Ray, lines/s: {', '.join(f'{name}: {rate:,.0f}' for name, rate in theirs.items())}",
        ],
        {"lines": lines, "wylon_lines_per_s": ours, "ray_lines_per_s": theirs, "ratio": ratio},
        [Mark("times as fast as Ray Data", ratio, MIN_RATIO)],
    )


def _wylon_rate(url: str, path: Path, data: Path, lines: int) -> float:
    # A fresh deployment per run, so that no process of wylon runs beside Ray.
    with deployment(data, url) as deployed, BatchRun(deployed, path) as run:
        run.create()
        require_completed(run.wait(_BATCH_WITHIN_S), lines)
        return lines / run.times().total_s


def _ray_rates(url: str, path: Path, folder: Path) -> dict[str, float]:
    output = folder / "ray"
    output.mkdir()
    command = [sys.executable, "-m", "bench.ray_http", url, str(path), str(output)]
    log = folder / "ray.log"
    with log.open("wb") as errors:
        done = subprocess.run(
            command,
            check=False,
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=_RAY_WITHIN_S,
            env=os.environ | _RAY_ENVIRON,
        )
    if done.returncode:
        raise RuntimeError(f"Ray broke off:\n{log.read_text(errors='replace')[-4_000:]}")
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates
