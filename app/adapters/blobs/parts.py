"""Names of blobs being written; the name tells the writing process.

So the leftovers of a dead process are found without a clock, and a blob of another host never counts as a leftover.
"""

import os
import re
import secrets
import socket
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

PART_FOLDER = ".part"
_NAME = re.compile(r"([0-9a-f]{12})-([0-9a-f]{12})-([0-9]+)-([0-9]+)-([0-9]+)-[0-9a-f]{16}")
_PROC = Path("/proc")
# The field of /proc/PID/stat with the start of the process, counted from behind the name, which may hold spaces.
_START_FIELD = 19


class _Writer(NamedTuple):
    """A process: the host, the host's boot, the name space of process ids, the process id and the start."""

    host: str
    boot: str
    namespace: int
    pid: int
    start: int


def new_part_name() -> str:
    """Return a unique name for a part."""
    writer = _this_process(os.getpid())
    token = secrets.token_hex(8)
    # Without /proc the process can't be identified: the part waits for the sweep by age.
    return token if writer is None else "-".join([*map(str, writer), token])


def is_abandoned(name: str) -> bool:
    """Return whether the writer of a part was a process of this host and has surely ended."""
    match, reader = _NAME.fullmatch(name), _this_process(os.getpid())
    if match is None or reader is None:
        return False
    host, boot, namespace, pid, start = match.groups()
    if host != reader.host:
        return False
    if boot != reader.boot:
        return True
    # In another container the id belongs to another process.
    return int(namespace) == reader.namespace and not _is_alive(int(pid), int(start))


def _is_alive(pid: int, start: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # The process belongs to another user.
        return True
    found = _started_at(pid)
    # Meanwhile the system may have given the id to another process.
    return found is None or found == start


@lru_cache(maxsize=1)
def _this_process(pid: int) -> _Writer | None:
    start = _started_at(pid)
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        namespace = (_PROC / "self/ns/pid").readlink().name
    except OSError:
        return None
    number = re.search(r"[0-9]+", namespace)
    if start is None or number is None:
        return None
    machine = ""
    with suppress(OSError):
        machine = Path("/etc/machine-id").read_text()
    # Machines from one image share the machine id, but hardly both the storage and the host name.
    return _Writer(_short(f"{machine}{socket.gethostname()}"), _short(boot), int(number[0]), pid, start)


def _started_at(pid: int) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        stat = (_PROC / str(pid) / "stat").read_text()
        return int(stat.rpartition(")")[2].split()[_START_FIELD])
    return None


def _short(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()
