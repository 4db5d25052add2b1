"""Blobs as files in a folder, durable once committed."""

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from app.adapters.blobs.parts import PART_FOLDER, is_abandoned
from app.adapters.blobs.root import Descriptor, StorageRoot, open_folder, storage_errors
from app.adapters.blobs.writer import LocalBlobWriter
from app.domain.errors import BlobMissing, StorageFull, Unavailable
from app.domain.limits import MIB

PIECE_BYTES = MIB
# A worker reads few inputs at a time. Only few files stay open, because a deleted open file still takes room on the
# disk.
_MAX_OPEN_FILES = 8
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
_FOLDER, _KEY = re.compile(_NAME), re.compile(f"{_NAME}/{_NAME}")
_PART_KEY = re.compile(r"\.part/[0-9a-f-]+")
_PROBE = b"wylon\n" * 512


class LocalBlobs:
    """Blobs below the folder `root`, which several processes may use at once.

    A blob is written as `.part/<name>` and then renamed into place, so that a reader never sees half a blob. The folder
    is never made here, and must hold the marker with the id from `storage_id`. The marker is checked before each write
    and whenever a blob is missing. Found bytes need no check: keys are random, so no other storage has the blob.
    """

    def __init__(self, root: Path, storage_id: Callable[[], str]) -> None:
        self._root = StorageRoot(root, storage_id)
        self._open_files = _OpenFiles()

    def create(self, key: str) -> LocalBlobWriter:
        _check_key(key)
        return LocalBlobWriter(self._root, self._root.open(), key)

    def size(self, key: str) -> int:
        file = self._open(key)
        with storage_errors():
            return os.fstat(file.fd).st_size

    def read(self, key: str, offset: int, length: int) -> bytes:
        file = self._open_files.get(key)
        if file is not None:
            # A share that came back may have left a stale handle; then the file is opened anew.
            with suppress(OSError):
                # Another process may have deleted the blob, and only this process could still read the bytes.
                if os.fstat(file.fd).st_nlink:
                    return os.pread(file.fd, length, offset)
            self._open_files.drop(key)
        file = self._open_files.keep(key, self._open(key))
        with storage_errors():
            return os.pread(file.fd, length, offset)

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, *, piece_bytes: int = PIECE_BYTES
    ) -> Iterator[bytes]:
        # Opened here and not in the generator, so that a missing blob shows before the first piece is asked for.
        file = self._open(key)
        with storage_errors():
            end = os.fstat(file.fd).st_size if length is None else offset + length
        return self._pieces(file, offset, end, piece_bytes)

    def delete(self, key: str) -> None:
        if not _PART_KEY.fullmatch(key):
            _check_key(key)
        self._open_files.drop(key)
        try:
            with storage_errors():
                try:
                    (self._root.path / key).unlink()
                except (FileNotFoundError, NotADirectoryError):
                    with self._root.open() as opened, suppress(FileNotFoundError, NotADirectoryError):
                        os.unlink(key, dir_fd=opened.fd)
        except StorageFull as fault:
            # Some file systems need room for a deletion: the caller can do nothing else than for any other fault.
            raise Unavailable(f"The blob {key} can't be deleted: {fault}") from fault

    def stale(self, age_s: float) -> Iterator[str]:
        # Only in a folder with the right marker: another deployment's files must not be swept.
        with self._root.open() as opened:
            before = self._now(opened) - age_s
            for folder in _names(opened.fd):
                if folder == PART_FOLDER or _FOLDER.fullmatch(folder):
                    for name in _older_files(opened.fd, folder, before):
                        yield f"{folder}/{name}"

    def drop_abandoned(self) -> int:
        """Delete the unfinished blobs of dead processes of this host; return the number of deleted blobs."""
        deleted = 0
        with self._root.open() as opened:
            for name in _names(opened.fd, PART_FOLDER):
                # A part that can't be deleted now must not hold up the others.
                with suppress(OSError):
                    if is_abandoned(name):
                        os.unlink(f"{PART_FOLDER}/{name}", dir_fd=opened.fd)
                        deleted += 1
        return deleted

    def check(self) -> None:
        """Write some bytes and read them back; raises Unavailable or StorageFull."""
        writer = self.create("probes/probe")
        try:
            writer.write(_PROBE)
            if writer.read_back() != _PROBE:
                raise Unavailable(f"The storage {self._root.path} returns other bytes than were written.")
        finally:
            writer.discard()

    def _open(self, key: str) -> Descriptor:
        _check_key(key)
        with storage_errors():
            try:
                return Descriptor(_open_file(self._root.path / key))
            except (FileNotFoundError, NotADirectoryError):
                # Look again inside the folder with the right marker: the storage may have been away a moment ago.
                with self._root.open() as opened:
                    try:
                        return Descriptor(_open_file(key, opened.fd))
                    except (FileNotFoundError, NotADirectoryError):
                        raise BlobMissing(f"There is no blob {key}.") from None

    def _now(self, opened: Descriptor) -> float:
        """Return the time by the clock that stamps the files, which may be a server's clock."""
        writer = LocalBlobWriter(self._root, Descriptor(os.dup(opened.fd)), "probes/probe")
        try:
            return writer.begun_at()
        finally:
            writer.discard()

    def _pieces(self, file: Descriptor, offset: int, end: int, piece_bytes: int) -> Iterator[bytes]:
        while offset < end:
            with storage_errors():
                piece = os.pread(file.fd, min(piece_bytes, end - offset), offset)
            if not piece:
                return
            yield piece
            offset += len(piece)


class _OpenFiles:
    """The files read last, by key. At some thousand reads a second, opening a file costs more than reading."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_key: OrderedDict[str, Descriptor] = OrderedDict()

    def get(self, key: str) -> Descriptor | None:
        with self._lock:
            file = self._by_key.get(key)
            if file is not None:
                self._by_key.move_to_end(key)
            return file

    def keep(self, key: str, file: Descriptor) -> Descriptor:
        with self._lock:
            self._by_key[key] = file
            while len(self._by_key) > _MAX_OPEN_FILES:
                self._by_key.popitem(last=False)
        return file

    def drop(self, key: str) -> None:
        with self._lock:
            self._by_key.pop(key, None)


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a blob: write name/name")


def _open_file(path: str | Path, parent: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=parent)


def _names(root: int, folder: str | None = None) -> list[str]:
    """Return the names in an open folder, or in a subfolder; empty where the subfolder can't be opened."""
    with storage_errors():
        try:
            fd = root if folder is None else open_folder(folder, root)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # A folder that only another user may open is not wylon's, such as a folder of snapshots.
            return []
        try:
            return os.listdir(fd)
        finally:
            if fd != root:
                os.close(fd)


def _older_files(root: int, folder: str, before: float) -> Iterator[str]:
    for name in _names(root, folder):
        # Other names are not blobs, such as NFS's names for files deleted while open.
        if folder == PART_FOLDER or _FOLDER.fullmatch(name):
            with storage_errors(), suppress(FileNotFoundError, PermissionError):
                if os.stat(f"{folder}/{name}", dir_fd=root, follow_symlinks=False).st_mtime < before:
                    yield name
