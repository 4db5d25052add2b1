"""End the processes left behind by a killed `wylon up`.

On Linux a child ends with the supervisor, and gunicorn's children end too. This module covers the moments in between,
and systems that can't tie a child to its parent.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

# A killed process ends within milliseconds, unless the process waits for a disk.
_GONE_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05


def end_leftovers(run: Path, data: Path, say: Callable[[str], None]) -> None:
    """Kill the process groups named by the pid files in `run`, if a member still works on the folder `data`."""
    groups = {group for group in _noted_pids(run) if any(_works_on(pid, data) for pid in _members(group))}
    if not groups:
        return
    say(f"Ending {len(groups)} processes that an earlier `wylon up` left behind …")
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + _GONE_WITHIN_S
    while time.monotonic() < deadline and any(True for group in groups for _ in _members(group)):
        time.sleep(_LOOK_EVERY_S)


def _noted_pids(run: Path) -> Iterable[int]:
    for path in run.glob("*.pid"):
        # Skip the supervisor's own id: its group belongs to a terminal or a test.
        if path.stem != "up":
            with suppress(OSError, ValueError):
                yield int(path.read_text())


def _members(group: int) -> Iterable[int]:
    """Yield the ids of a group's living processes; empty on a system without /proc."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # The process name in brackets may hold any character; state, parent and group follow the last bracket.
            state, _parent, of_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                yield int(path.parent.name)


def _works_on(pid: int, data: Path) -> bool:
    """Return whether the process was started for the data folder; another program may have the id by now."""
    with suppress(OSError):
        return f"WYLON_DATA={data}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False
