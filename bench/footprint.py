"""Peak memory and CPU time by process of a deployment."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.processes import Deployment

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
MIB = 1024 * 1024


@dataclass(frozen=True)
class Footprint:
    """A named process with its children: the largest peak of a process, and the summed CPU time."""

    peak_mib: float
    cpu_s: float


def read_footprints(deployed: Deployment) -> dict[str, Footprint]:
    """Return the footprints of live processes by name; `up` is the supervisor."""
    found = {"up": _footprint([deployed.process])}
    for name in deployed.names():
        pid = deployed.pid_of(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found[name] = _footprint([root, *root.children(recursive=True)])
    return found


def read_memory_mib(deployed: Deployment) -> float:
    """Return the memory of all processes together; pages that processes share are counted once."""
    total = 0
    for process in (deployed.process, *deployed.process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / MIB


def cpu_between(before: Mapping[str, Footprint], after: Mapping[str, Footprint]) -> dict[str, float]:
    """Return the CPU seconds by process between two readings."""
    return {name: after[name].cpu_s - before[name].cpu_s for name in after if name in before}


def _footprint(processes: list[psutil.Process]) -> Footprint:
    readings = list(_readings(processes))
    return Footprint(max((peak for peak, _ in readings), default=0.0), sum(cpu for _, cpu in readings))


def _readings(processes: list[psutil.Process]) -> Iterator[tuple[float, float]]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            times = process.cpu_times()
            # A process that has just ended has no memory left.
            if found := _PEAK.search(status):
                yield int(found[1]) / 1024, times.user + times.system
