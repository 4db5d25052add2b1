"""Row f: a batch with workers killed during the run."""

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from bench.batch_run import BatchRun
from bench.processes import Deployment, deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import custom_id, write_requests

LATENCY_MS = 100
# 6,000 lines take 37.5 s at best.
CAPACITY = 16
MAX_DELAY_S = 90.0
# The workers to kill, with the share of recorded lines at the kill.
_KILLS = (("worker-1", 0.2), ("worker-2", 0.45), ("worker-1", 0.7))


class _Killer:
    """Kills a worker whenever the batch reaches the next planned share."""

    def __init__(self, deployed: Deployment) -> None:
        self._deployed = deployed
        self._due = list(_KILLS)
        self.killed: list[int] = []

    def __call__(self, batch: dict[str, Any]) -> None:
        counts = batch["request_counts"]
        if not self._due or not counts["total"]:
            return
        name, share = self._due[0]
        pid = self._deployed.pid_of(name)
        # A worker killed earlier must first be back.
        if counts["completed"] < share * counts["total"] or pid is None or pid in self.killed:
            return
        os.kill(pid, signal.SIGKILL)
        self.killed.append(pid)
        self._due.pop(0)


def measure(key: str, folder: Path, *, lines: int) -> Row:
    """Run a batch under kills and check the output line by line."""
    path = folder / "requests.jsonl"
    write_requests(path, lines)
    ideal_s = lines * LATENCY_MS / 1000 / CAPACITY
    options = ("--capacity", str(CAPACITY), "--latency-ms", str(LATENCY_MS), "--track")
    with upstream(folder, *options) as url, deployment(folder / "data", url) as deployed:
        killer = _Killer(deployed)
        with BatchRun(deployed, path) as run:
            run.create()
            batch = run.wait(ideal_s + 2 * MAX_DELAY_S, killer)
            faults = _faults(batch, run.output_lines(batch["output_file_id"]), lines)
            total_s = run.times().total_s if batch["status"] == "completed" else float("inf")
        repeats = httpx.get(f"{url.removesuffix('/v1')}/stats", trust_env=False).json()["repeats"]
    if len(killer.killed) < len(_KILLS):
        faults.append(f"only {len(killer.killed)} kills happened")
    delay_s = total_s - ideal_s
    return Row(
        key,
        f"{lines:,} lines with a worker killed {len(killer.killed)} times",
        f"{', '.join(faults) or 'completed, each line once'}, {delay_s:.1f} s over the ideal {ideal_s:.1f} s",
        f"complete, ≤ {MAX_DELAY_S:g} s over",
        not faults and delay_s <= MAX_DELAY_S,
        [f"{repeats} calls were made again"],
        {"ideal_s": ideal_s, "total_s": total_s, "repeated_calls": repeats, "faults": faults},
        [Mark("killed workers, over the ideal", delay_s, MAX_DELAY_S, is_most=True, unit="s")],
    )


def _faults(batch: dict[str, Any], output: Iterable[str], lines: int) -> list[str]:
    """Return the faults of a batch that should have every line once and in order."""
    faults = []
    if batch["status"] != "completed":
        faults.append(f"the batch is {batch['status']}")
    if batch["request_counts"] != {"total": lines, "completed": lines, "failed": 0}:
        faults.append(f"counts are {batch['request_counts']}")
    if [json.loads(line)["custom_id"] for line in output] != [custom_id(number) for number in range(lines)]:
        faults.append("the output has not each line once in order")
    return faults
