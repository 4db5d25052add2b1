"""Blobs as files in a folder, durable once committed."""

import errno
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from app.domain.errors import BlobMissing, StorageFull, Unavailable
from app.domain.limits import MIB

PIECE_BYTES = MIB
# One call to the system for so many bytes: callers may append line by line.
_BUFFER_BYTES = MIB // 4
# What is not on disk yet when a blob is committed: a slow disk takes seconds for it, and minutes for a whole file.
_SYNC_BYTES = 64 * MIB
# A worker reads few inputs at a time. An open file that was deleted still takes room on the disk, so few are kept.
_MAX_OPEN_FILES = 8
_PART_FOLDER = ".part"
# Of a folder that is read-only, of others, or not there: a share that went away leaves its mount point, or nothing.
_AWAY = frozenset(
    {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.ESTALE, errno.ENOTCONN}
)
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_PART_KEY = re.compile(r"\.part/[0-9a-f]+")


class LocalBlobs:
    """Blobs below the folder `root`, which several processes may use at once.

    A blob is written as `.part/<random>` and renamed into place, so that nobody ever sees half of one.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open_files = _OpenFiles()

    def create(self, key: str) -> "LocalBlobWriter":
        path = self._path(key)
        part = self._root / _PART_FOLDER / secrets.token_hex(16)
        with _storage_errors():
            part.parent.mkdir(parents=True, exist_ok=True)
            return LocalBlobWriter(part, path)

    def size(self, key: str) -> int:
        try:
            return self._path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(key) from None

    def read(self, key: str, offset: int, length: int) -> bytes:
        file = self._open_files.get(key)
        if file is None:
            file = self._open_files.keep(key, _OpenFile(self._path(key), key))
        # Another process may have deleted the blob: its bytes would still be there for us, and for us alone.
        if os.fstat(file.fd).st_nlink == 0:
            self._open_files.drop(key)
            raise _missing(key)
        return os.pread(file.fd, length, offset)

    def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        # Checked here and not in the generator, so that a missing blob shows before the first piece is asked for.
        end = self.size(key) if length is None else offset + length
        return self._pieces(key, offset, end)

    def delete(self, key: str) -> None:
        path = self._root / key if _PART_KEY.fullmatch(key) else self._path(key)
        self._open_files.drop(key)
        with _storage_errors(), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()

    def stale(self, before: float) -> Iterator[str]:
        for folder in _entries(self._root):
            if folder.is_dir(follow_symlinks=False):
                for entry in _entries(folder.path):
                    if _written_at(entry) < before:
                        yield f"{folder.name}/{entry.name}"

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of a blob: write name/name")
        return self._root / key

    def _pieces(self, key: str, offset: int, end: int) -> Iterator[bytes]:
        file = _OpenFile(self._path(key), key)
        while offset < end:
            piece = os.pread(file.fd, min(PIECE_BYTES, end - offset), offset)
            if not piece:
                return
            yield piece
            offset += len(piece)


class LocalBlobWriter:
    """A blob of LocalBlobs that is being written."""

    def __init__(self, part: Path, path: Path) -> None:
        self._part = part
        self._path = path
        self._pending = bytearray()
        self._unsynced = 0
        self._fd: int | None = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> int:
        self._pending += data
        if len(self._pending) >= _BUFFER_BYTES:
            self._flush()
        return len(data)

    def commit(self) -> None:
        """Make the blob durable under its key: file first, then its name, then the folder that holds the name."""
        self._flush()
        with _storage_errors():
            os.fsync(self._open_fd())
            self._close()
            folder = self._path.parent
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                _sync_folder(folder.parent)
            self._part.rename(self._path)
            _sync_folder(folder)

    def discard(self) -> None:
        self._close()
        with suppress(FileNotFoundError, NotADirectoryError):
            self._part.unlink()

    def _flush(self) -> None:
        fd = self._open_fd()
        with _storage_errors(), memoryview(self._pending) as view:
            written = 0
            while written < len(view):
                written += os.write(fd, view[written:])
            self._unsynced += written
            if self._unsynced >= _SYNC_BYTES:
                os.fsync(fd)
                self._unsynced = 0
        self._pending.clear()

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError("The blob was committed or discarded already.")
        return self._fd

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class _OpenFile:
    """A file that stays open as long as somebody refers to it: no reader ever loses it to another."""

    def __init__(self, path: Path, key: str) -> None:
        self.fd = -1
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(key) from None

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class _OpenFiles:
    """The files read last, by key; opening one for each of some thousand reads a second costs more than the read."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_key: OrderedDict[str, _OpenFile] = OrderedDict()

    def get(self, key: str) -> _OpenFile | None:
        with self._lock:
            file = self._by_key.get(key)
            if file is not None:
                self._by_key.move_to_end(key)
            return file

    def keep(self, key: str, file: _OpenFile) -> _OpenFile:
        with self._lock:
            self._by_key[key] = file
            while len(self._by_key) > _MAX_OPEN_FILES:
                self._by_key.popitem(last=False)
        return file

    def drop(self, key: str) -> None:
        with self._lock:
            self._by_key.pop(key, None)


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "No room is left where files are kept: free some, then send the request again."
            ) from fault
        if fault.errno in _AWAY:
            raise Unavailable(
                f"The folder for files can't be written to ({os.strerror(fault.errno)}): {fault.filename}"
            ) from fault
        raise


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return


def _written_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        # Gone while the folder was listed.
        return float("inf")


def _missing(key: str) -> BlobMissing:
    return BlobMissing(f"There is no blob {key}.")
