"""The folders `run` and `log` of a deployment: one supervisor's lock, process ids, logs and the kept API key."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from app.cli.up.leftovers import end_leftovers
from app.domain.api_key import new_api_key

# A log that has grown past this is put aside, in place of the log put aside before it.
_MAX_LOG_BYTES = 50 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
_SETTINGS = "settings.json"


class FolderTaken(Exception):
    """Another supervisor works on this data folder."""


class RunFolder:
    """Where a supervisor says what it runs."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.run = data / "run"
        self.logs = data / "log"
        self._lock: int | None = None

    def acquire(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Take the folder for this process, and clear what a crash left there; FolderTaken where another has it.

        Args:
            say: told where processes of a killed supervisor are ended first.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        # The lock goes with the process that holds it, whatever ends that; its file stays.
        lock = os.open(self.run / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise FolderTaken(self._taken_message()) from None
        self._lock = lock
        end_leftovers(self.run, self.data, say)
        for stale in (*self.run.glob("*.pid"), *self.run.glob("*.sock")):
            stale.unlink(missing_ok=True)
        self.write_pid("up", os.getpid())

    def release(self) -> None:
        """Give the folder up."""
        if self._lock is not None:
            self.remove_pid("up")
            os.close(self._lock)
            self._lock = None

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Leave for commands that look at this deployment what it was started with, readable for its owner alone."""
        (self.run / _SETTINGS).write_text(json.dumps(dict(settings)))

    def write_pid(self, name: str, pid: int) -> None:
        """Say which process has this name now; readers see the old id or the new one."""
        path = self._pid_path(name)
        written = path.with_suffix(".pid-new")
        written.write_text(f"{pid}\n")
        written.replace(path)

    def remove_pid(self, name: str) -> None:
        """Say that no process has this name."""
        self._pid_path(name).unlink(missing_ok=True)

    def log_of(self, name: str) -> Path:
        """Return the path of a process's log."""
        return self.logs / f"{name}.log"

    def rotate_logs(self, max_bytes: int = _MAX_LOG_BYTES) -> None:
        """Put aside what is in logs that have grown too large, while their processes write on."""
        for path in self.logs.glob("*.log"):
            # A full disk or a log that is gone must not end the supervisor.
            with suppress(OSError):
                if path.stat().st_size > max_bytes:
                    _move_content(path, path.with_suffix(".log.1"))

    def _pid_path(self, name: str) -> Path:
        return self.run / f"{name}.pid"

    def _taken_message(self) -> str:
        with suppress(OSError, ValueError):
            pid = int(self._pid_path("up").read_text())
            return f"{self.data} is in use by `wylon up` with process id {pid}: stop that, or choose another --data."
        return f"{self.data} is in use by another `wylon up`: stop that, or choose another --data."


def _move_content(log: Path, aside: Path) -> None:
    """Copy a log and empty it: its process has it open to append, and would write on in a file that was renamed."""
    with log.open("r+b") as source, aside.open("wb") as copy:
        shutil.copyfileobj(source, copy, _COPY_BYTES)
        # What was written meanwhile; a line that comes between this read and the cut is lost.
        shutil.copyfileobj(source, copy, _COPY_BYTES)
        source.truncate(0)


def read_settings(run: Path) -> dict[str, str]:
    """Return what the `wylon up` of this folder was started with; nothing where there was none or its note is torn."""
    with suppress(OSError, ValueError):
        found = json.loads((run / _SETTINGS).read_text())
        if isinstance(found, dict):
            return {name: value for name, value in found.items() if isinstance(value, str)}
    return {}


def read_kept_key(data: Path) -> str | None:
    """Return the API key that a deployment keeps for itself, None where it keeps none."""
    with suppress(FileNotFoundError):
        return (data / "api-key").read_text().strip() or None
    return None


def keep_key(data: Path) -> str:
    """Return the deployment's kept API key, made and written for its owner's eyes if there is none."""
    kept = read_kept_key(data)
    if kept is not None:
        return kept
    key = new_api_key()
    descriptor = os.open(data / "api-key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{key}\n")
    return key
