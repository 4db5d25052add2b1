"""Writes a blob."""

import os
from contextlib import suppress
from pathlib import PurePosixPath

from app.adapters.blobs.parts import PART_FOLDER, new_part_name
from app.adapters.blobs.root import Descriptor, StorageRoot, open_folder, storage_errors
from app.domain.errors import StorageFull, Unavailable
from app.domain.limits import MIB

# The bytes per system call: callers may append line by line.
_BUFFER_BYTES = MIB // 4
# The most unsynced bytes at a commit: a slow disk takes seconds for this size, and minutes for a whole file.
_SYNC_BYTES = 64 * MIB


class LocalBlobWriter:
    """A blob of LocalBlobs being written, in the open folder whose marker was checked."""

    def __init__(self, root: StorageRoot, opened: Descriptor, key: str) -> None:
        self._root = root
        self._opened = opened
        self._key = key
        self._part = f"{PART_FOLDER}/{new_part_name()}"
        self._pending = bytearray()
        self._unsynced = 0
        try:
            self._file = self._begin()
        except BaseException:
            # The caller gets no writer to discard.
            opened.close()
            raise

    def write(self, data: bytes) -> int:
        self._pending += data
        if len(self._pending) >= _BUFFER_BYTES:
            self._flush()
        return len(data)

    def commit(self) -> None:
        """Make the blob durable under the key: first the file, then the name, then the folder that holds the name."""
        self._sync()
        self._file.close()
        self._root.confirm(self._opened)
        root, folder = self._opened.fd, str(PurePosixPath(self._key).parent)
        with storage_errors():
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=root)
                os.fsync(root)
            os.rename(self._part, self._key, src_dir_fd=root, dst_dir_fd=root)
        try:
            with storage_errors():
                _sync_folder(folder, root)
            # In a folder moved away meanwhile, the blob would never be found.
            self._root.confirm(self._opened)
        except (Unavailable, StorageFull):
            # A blob whose commit failed is referred to nowhere.
            with suppress(OSError):
                os.unlink(self._key, dir_fd=root)
            raise
        self._opened.close()

    def discard(self) -> None:
        self._file.close()
        if self._opened.fd >= 0:
            # A part that can't be deleted now is deleted once this process has ended.
            with suppress(OSError):
                os.unlink(self._part, dir_fd=self._opened.fd)
            self._opened.close()

    def read_back(self) -> bytes:
        """Return the start of the written bytes, from the disk where the system allows."""
        self._sync()
        with storage_errors():
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            return os.pread(self._file.fd, _BUFFER_BYTES, 0)

    def begun_at(self) -> float:
        """Return when the part was made, by the clock that stamps the files."""
        with storage_errors():
            return os.fstat(self._file.fd).st_mtime

    def _begin(self) -> Descriptor:
        with storage_errors():
            with suppress(FileExistsError):
                os.mkdir(PART_FOLDER, 0o700, dir_fd=self._opened.fd)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return Descriptor(os.open(self._part, flags, 0o600, dir_fd=self._opened.fd))

    def _sync(self) -> None:
        self._flush()
        with storage_errors():
            os.fsync(self._file.fd)

    def _flush(self) -> None:
        if self._file.fd < 0:
            raise ValueError("The blob was committed or discarded already.")
        with storage_errors(), memoryview(self._pending) as view:
            written = 0
            while written < len(view):
                written += os.write(self._file.fd, view[written:])
            self._unsynced += written
            if self._unsynced >= _SYNC_BYTES:
                os.fsync(self._file.fd)
                self._unsynced = 0
        self._pending.clear()


def _sync_folder(folder: str, root: int) -> None:
    fd = open_folder(folder, root)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
