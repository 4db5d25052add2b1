"""The storage folder of a house: a small file system of its own where that may be mounted, so that it can be full."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Lock

from app.adapters.blobs.marker import MARKER
from tests.integration.processes import until

_SIZE_MIB = 64
_BALLAST = ".ballast"
_PIECE = b"\0" * 1024 * 1024


class Storage:
    """Where the blobs are."""

    def __init__(self, folder: Path) -> None:
        # One level down, since a mount point can't be put aside.
        self.mount = folder / "storage"
        self.blobs = self.mount / "blobs"
        self.blobs.mkdir(parents=True)
        # Two faults of a pair would put each other's folder aside.
        self._swap = Lock()
        # What came or went in a folder that stood in this one's place.
        self.written_elsewhere: set[Path] = set()
        self.is_mounted = self._mount()
        self.blobs.mkdir(exist_ok=True)

    def keys(self) -> set[str]:
        """Return the blobs that are there, those that are being written included."""
        found = {str(path.relative_to(self.blobs)) for path in self.blobs.rglob("*") if path.is_file()}
        return found - {MARKER}

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no byte free."""
        ballast = self.mount / _BALLAST
        try:
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(_PIECE):
                    pass
            with suppress(OSError), ballast.open("ab", buffering=0) as file:
                while file.write(b"\0" * 4096):
                    pass
            yield
        finally:
            ballast.unlink(missing_ok=True)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse all writes."""
        # The mount point and not the file system: that refuses as long as a deleted file is open. Also
        # refused while somebody has a file open for writing, for milliseconds.
        until(lambda: self._remount("ro"), 10, "the storage is read-only", every_s=0.01)
        try:
            yield
        finally:
            until(lambda: self._remount("rw"), 10, "the storage is writable", every_s=0.01)

    def missing(self) -> AbstractContextManager[None]:
        """Have a file where the folder was, as a share that went away leaves a place nobody can look into."""
        return self._replaced(Path.touch)

    def moved(self) -> AbstractContextManager[None]:
        """Move the folder away under the processes that use it, and leave nothing in its place."""
        return self._replaced(lambda place: None)

    def emptied(self) -> AbstractContextManager[None]:
        """Have an empty folder in the folder's place, as a share that is not mounted leaves its mount point."""
        return self._replaced(Path.mkdir)

    def anothers(self) -> AbstractContextManager[None]:
        """Have the folder of another deployment in its place, with a file that is old enough to be swept."""
        return self._replaced(_make_anothers)

    def restore_without_plans(self) -> None:
        """Put a copy in the folder's place that is as old as its files, and older than its plans."""
        aside, copy = self.mount / "aside", self.mount / "copy"
        with self._swap:
            self.blobs.rename(aside)
            try:
                shutil.copytree(aside, copy)
                shutil.rmtree(copy / "plans", ignore_errors=True)
            except BaseException:
                aside.rename(self.blobs)
                raise
            copy.rename(self.blobs)
            shutil.rmtree(aside)

    @contextmanager
    def _replaced(self, put_in_place: Callable[[Path], None]) -> Iterator[None]:
        aside = self.mount / "aside"
        with self._swap:
            self.blobs.rename(aside)
            put_in_place(self.blobs)
            before = _everything(self.blobs)
            try:
                yield
                self.written_elsewhere = _everything(self.blobs) ^ before
            finally:
                if self.blobs.is_dir():
                    shutil.rmtree(self.blobs)
                else:
                    self.blobs.unlink(missing_ok=True)
                aside.rename(self.blobs)

    def clean_up(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.mount)], check=False)
        shutil.rmtree(self.mount, ignore_errors=True)

    def _mount(self) -> bool:
        if sys.platform != "linux" or os.geteuid() != 0:
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MIB}m,mode=700", "tmpfs", str(self.mount)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _remount(self, how: str) -> bool:
        command = ["mount", "-o", f"remount,bind,{how}", str(self.mount)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _make_anothers(place: Path) -> None:
    (place / "files").mkdir(parents=True)
    (place / MARKER).write_text("0" * 20 + "\n")
    stranger = place / "files" / "file-stranger"
    stranger.touch()
    os.utime(stranger, (0, 0))


def _everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
