"""Rows a and b: lines per second from create to completed, as a share of the bare loop over the same upstream."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bench.batch_run import BatchRun, Times, require_completed
from bench.footprint import cpu_between, read_footprints
from bench.processes import Deployment, deployment, upstream
from bench.report import Mark, Row, by_process
from bench.requests_file import write_requests

_BARE_WITHIN_S = 300.0
_BATCH_WITHIN_S = 600.0


def measure(
    key: str, what: str, bar: float, folder: Path, *, lines: int, rounds: int, settings: Mapping[str, str]
) -> Row:
    """Measure the bare loop and wylon in turns; the ratio is between the medians.

    Args:
        key: the row's key.
        what: the row's text.
        bar: the least ratio.
        folder: for logs and data.
        lines: the number of lines per batch.
        rounds: the number of batches; the bare loop runs before, between and after the batches.
        settings: more variables for `wylon up`.
    """
    path = folder / "requests.jsonl"
    write_requests(path, lines)
    bare: list[float] = []
    runs: list[Times] = []
    with upstream(folder) as url, deployment(folder / "data", url, settings=settings) as deployed:
        before = read_footprints(deployed)
        bare.append(bare_rate(url, path))
        for _ in range(rounds):
            runs.append(_run_batch(deployed, path, lines))
            bare.append(bare_rate(url, path))
        after = read_footprints(deployed)
    rates = [lines / run.total_s for run in runs]
    ratio = statistics.median(rates) / statistics.median(bare)
    peaks = {name: footprint.peak_mib for name, footprint in after.items()}
    cpu_s = {name: spent / rounds for name, spent in cpu_between(before, after).items()}
    return Row(
        key,
        f"{lines:,} small lines, {what}",
        f"{ratio:.3f} of the bare loop ({statistics.median(rates):,.0f} of {statistics.median(bare):,.0f} lines/s)",
        f"≥ {bar:g}",
        ratio >= bar,
        [
            *(_described(number, run) for number, run in enumerate(runs, 1)),
            f"bare loop, lines/s: {', '.join(f'{rate:,.0f}' for rate in bare)}",
            by_process("peak memory", peaks, "MiB"),
            by_process("CPU a batch", cpu_s, "s"),
        ],
        {
            "lines": lines,
            "bare_lines_per_s": bare,
            "wylon": [asdict(run) for run in runs],
            "ratio": ratio,
            "peak_mib": peaks,
            "cpu_s_per_batch": cpu_s,
        },
        [Mark(f"{what}, of the bare loop", ratio, bar)],
    )


def _run_batch(deployed: Deployment, path: Path, lines: int) -> Times:
    with BatchRun(deployed, path) as run:
        run.create()
        require_completed(run.wait(_BATCH_WITHIN_S), lines)
        return run.times()


def bare_rate(url: str, path: Path) -> float:
    """Return the lines/s of the bare loop at the better width."""
    # A process of its own, like a worker.
    command = [sys.executable, "-m", "bench.bare_loop", url, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_BARE_WITHIN_S)
    rates: dict[str, float] = json.loads(done.stdout)
    return max(rates.values())


def _described(number: int, run: Times) -> str:
    return (
        f"batch {number}: {run.total_s:.2f} s = validate {run.validate_s:.2f} + run {run.run_s:.2f} "
        f"+ finalize {run.finalize_s:.2f}"
    )
