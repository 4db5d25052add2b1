"""The root folder of the storage, used only while the marker shows the right storage."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.adapters.blobs.marker import DAMAGED, MARKER, read_marker
from app.domain.errors import StorageFull, Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Descriptor:
    """An open file or folder, closed once unreferenced: no reader loses the descriptor to another reader."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close the descriptor now; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "Descriptor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class StorageRoot:
    """The folder at `path`, which must hold the marker with the id from `storage_id`.

    The folder may be moved away and replaced at any moment. So a writer opens the folder once, has the marker checked,
    and then uses paths relative to the open folder.
    """

    def __init__(self, path: Path, storage_id: Callable[[], str]) -> None:
        self.path = path
        self._storage_id = storage_id

    def open(self) -> Descriptor:
        """Return the open folder; raises Unavailable where the folder is not the storage of this deployment."""
        with storage_errors():
            opened = Descriptor(open_folder(self.path))
        try:
            self._check_marker(opened.fd)
        except BaseException:
            # Closed here: the traceback may live long, and an open folder keeps a wrong mount from being unmounted.
            opened.close()
            raise
        return opened

    def confirm(self, opened: Descriptor) -> None:
        """Raise Unavailable where the path now leads to another folder, or the marker is gone."""
        with storage_errors():
            before, now = os.fstat(opened.fd), self.path.stat()
        if (before.st_dev, before.st_ino) != (now.st_dev, now.st_ino):
            raise Unavailable(f"The storage {self.path} was replaced by another folder.")
        self._check_marker(opened.fd)

    def _check_marker(self, root: int) -> None:
        wanted = self._storage_id()
        with storage_errors():
            found = read_marker(root)
        if found != wanted:
            raise Unavailable(foreign(self.path, found, wanted))


def foreign(path: Path, found: str | None, wanted: str) -> str:
    """Return the message that a folder is not the storage with the id `wanted`, with the remedy."""
    has = "has no marker" if found is None else f"has a marker with the id {found}"
    if found == DAMAGED:
        has = "has a marker that holds no id"
    return (
        f"The folder {path} is not the storage of this database: {MARKER} in it has to hold {wanted}, and the folder "
        f"{has}. Mount the right folder, or name it in WYLON_STORAGE_URL. Only if it surely is the right one, write "
        f"{wanted} into {path / MARKER}."
    )


def open_folder(path: str | Path, parent: int | None = None) -> int:
    """Return a descriptor of a folder; the path may be relative to an open folder."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Report that the storage is full or can't be used: a share that went away fails in many ways."""
    try:
        yield
    except OSError as fault:
        if fault.errno in _FULL:
            raise StorageFull(
                "No room is left where files are kept: free some, then send the request again."
            ) from fault
        where = f": {fault.filename}" if fault.filename else ""
        raise Unavailable(f"The storage can't be used ({fault.strerror or fault}){where}") from fault
