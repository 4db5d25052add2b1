"""Chooses the folder that becomes the storage of a database without a marked storage."""

import os
from collections.abc import Sequence
from pathlib import Path

from app.adapters.blobs.marker import DAMAGED, MARKER, read_marker, write_marker
from app.adapters.blobs.root import Descriptor, StorageRoot, foreign, open_folder, storage_errors
from app.domain.errors import Unavailable

# The folders for blobs.
_BLOB_FOLDERS = ("files", "plans", "results", "verdicts")


def check_storage(path: Path, storage_id: str) -> None:
    """Raise Unavailable where the folder is not the storage with this id."""
    StorageRoot(path, lambda: storage_id).open()


def adopt_storage(path: Path, deployment_id: str, known_blobs: Sequence[str]) -> str:
    """Mark the folder as the storage of a database; return the id in the marker.

    A missing folder is made for a database without files. A folder with blobs must prove to be the right folder: by a
    blob of the database, whose keys are random, or by the deployment's id in the marker.

    Args:
        path: the folder named by the settings.
        deployment_id: the id for a new marker.
        known_blobs: keys of some of the blobs that the database knows.

    Raises:
        Unavailable: the folder is not the right one, or can't be used.
    """
    with storage_errors():
        if not known_blobs:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = Descriptor(open_folder(path))
        found = read_marker(opened.fd)
        if found == deployment_id:
            return found
        is_proved = any(_has(opened.fd, key) for key in known_blobs)
        if is_proved and found not in (None, DAMAGED):
            # The database was restored from a time before the storage was noted.
            return found
        is_filled = any(_has(opened.fd, folder) and os.listdir(path / folder) for folder in _BLOB_FOLDERS)
        if is_proved or (found is None and not known_blobs and not is_filled):
            write_marker(opened.fd, deployment_id)
            return deployment_id
    if known_blobs or found is not None:
        raise Unavailable(foreign(path, found, deployment_id))
    raise Unavailable(
        f"The folder {path} holds files of another database, and this one has none: empty the folder, or name another "
        f"in WYLON_STORAGE_URL. Only if the files may be deleted, write {deployment_id} into {path / MARKER}."
    )


def _has(root: int, key: str) -> bool:
    try:
        os.stat(key, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
