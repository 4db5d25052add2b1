"""The marker of a storage: a file in the root with an id, which the database knows too.

An empty mount point, a wrong share or a foreign deployment's folder has no marker, or a marker with a different id.
"""

import os
import re
from contextlib import suppress

MARKER = ".wylon-storage"
_NEW = f"{MARKER}-new"
_ID = re.compile(r"[0-9a-f]{20}")
_MAX_BYTES = 64
# Stands for a marker that was cut off or overwritten; no deployment has this id.
DAMAGED = "damaged"


def read_marker(root: int) -> str | None:
    """Return the id in the marker of an open folder; None without a marker, DAMAGED for a marker without an id."""
    try:
        fd = os.open(MARKER, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None
    try:
        text = os.read(fd, _MAX_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    return text if _ID.fullmatch(text) else DAMAGED


def write_marker(root: int, storage_id: str) -> None:
    """Mark an open folder, durably; a reader sees the whole marker or none."""
    with suppress(FileNotFoundError):
        os.unlink(_NEW, dir_fd=root)
    fd = os.open(_NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=root)
    try:
        os.write(fd, f"{storage_id}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(_NEW, MARKER, src_dir_fd=root, dst_dir_fd=root)
    os.fsync(root)
