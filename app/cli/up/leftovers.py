"""Ends the processes that a killed `wylon up` left behind.

On Linux a child ends with the supervisor, and so does a child of gunicorn. This is for the moments in between, and for
systems that can't tie a child to its parent.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

# A killed process is gone within milliseconds, unless it waits for a disk.
_GONE_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05


def end_leftovers(run: Path, data: Path, say: Callable[[str], None]) -> None:
    """Kill the process groups that the pid files in `run` name, where they still work on the folder `data`."""
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
        # The supervisor's own id names the group of a terminal or of a test, which is not ours to end.
        if path.stem != "up":
            with suppress(OSError, ValueError):
                yield int(path.read_text())


def _members(group: int) -> Iterable[int]:
    """Yield the ids of the living processes of a group; none on a system without /proc."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # The name in brackets may hold anything; behind it are state, parent and group.
            state, _parent, of_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                yield int(path.parent.name)


def _works_on(pid: int, data: Path) -> bool:
    """Return whether the process was started for this data folder; an id may have gone to another program since."""
    with suppress(OSError):
        return f"WYLON_DATA={data}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False
