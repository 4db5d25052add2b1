"""The storage folder of a house: a small file system of its own where that may be mounted, so that it can be full."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
        self.is_mounted = self._mount()
        self.blobs.mkdir(exist_ok=True)

    def keys(self) -> set[str]:
        """Return the blobs that are there, those that are being written included."""
        return {str(path.relative_to(self.blobs)) for path in self.blobs.rglob("*") if path.is_file()}

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

    @contextmanager
    def missing(self) -> Iterator[None]:
        """Have a file where the folder was, as a share that went away leaves a place nobody can look into."""
        aside = self.mount / "aside"
        self.blobs.rename(aside)
        self.blobs.touch()
        try:
            yield
        finally:
            self.blobs.unlink()
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
