"""The folders `run` and `log` of a deployment: the supervisor's lock, process ids, logs and the kept API key."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from app.cli.up.leftovers import end_leftovers
from app.domain.api_key import new_api_key

# A larger log is set aside; the copy replaces the previous copy.
_MAX_LOG_BYTES = 50 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
_SETTINGS = "settings.json"


class FolderTaken(Exception):
    """A running supervisor has locked the data folder."""


class RunFolder:
    """The files in which a supervisor records its processes."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.run = data / "run"
        self.logs = data / "log"
        self._lock: int | None = None

    def acquire(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Lock the folder and clear up after a crash; FolderTaken if another supervisor holds the lock.

        Args:
            say: receives a message before processes of a killed supervisor are ended.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        # The kernel frees the lock when the holder ends, even by a crash; the lock file stays.
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
        """Unlock the folder."""
        if self._lock is not None:
            self.remove_pid("up")
            os.close(self._lock)
            self._lock = None

    def write_settings(self, settings: Mapping[str, str], secret_variables: Iterable[str] = ()) -> None:
        """Record the start settings for commands that inspect the deployment.

        Args:
            settings: the variables, with their values.
            secret_variables: variables recorded by name alone.
        """
        recorded: dict[str, str | None] = {**dict.fromkeys(secret_variables), **settings}
        (self.run / _SETTINGS).write_text(json.dumps(recorded))

    def write_pid(self, name: str, pid: int) -> None:
        """Record the process id of `name`; the write is atomic, so readers see the old id or the new id."""
        path = self._pid_path(name)
        written = path.with_suffix(".pid-new")
        written.write_text(f"{pid}\n")
        written.replace(path)

    def remove_pid(self, name: str) -> None:
        """Delete the process id of `name`."""
        self._pid_path(name).unlink(missing_ok=True)

    def log_of(self, name: str) -> Path:
        """Return the path of a process's log."""
        return self.logs / f"{name}.log"

    def rotate_logs(self, max_bytes: int = _MAX_LOG_BYTES) -> None:
        """Set the content of large logs aside while the processes keep writing to the same files."""
        for path in self.logs.glob("*.log"):
            # A full disk or a deleted log must not end the supervisor.
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
    """Copy a log, then empty it: the process has the file open for appending, and would follow a renamed file."""
    with log.open("r+b") as source, aside.open("wb") as copy:
        shutil.copyfileobj(source, copy, _COPY_BYTES)
        # Copy the lines written meanwhile; a line written between the second copy and the truncation is lost.
        shutil.copyfileobj(source, copy, _COPY_BYTES)
        source.truncate(0)


def read_settings(run: Path) -> dict[str, str]:
    """Return the settings recorded by the folder's `wylon up`; empty if the record is missing or damaged."""
    return {name: value for name, value in _recorded(run).items() if isinstance(value, str)}


def read_secret_variables(run: Path) -> set[str]:
    """Return the names of the variables that `wylon up` was given and recorded without a value."""
    return {name for name, value in _recorded(run).items() if value is None}


def _recorded(run: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        found = json.loads((run / _SETTINGS).read_text())
        if isinstance(found, dict):
            return found
    return {}


def read_kept_key(data: Path) -> str | None:
    """Return the API key kept in the data folder, or None if the folder keeps no key."""
    with suppress(FileNotFoundError):
        return (data / "api-key").read_text().strip() or None
    return None


def keep_key(data: Path) -> str:
    """Return the kept API key; if the folder keeps no key, make a key in a file only the owner can read."""
    kept = read_kept_key(data)
    if kept is not None:
        return kept
    key = new_api_key()
    descriptor = os.open(data / "api-key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{key}\n")
    return key
