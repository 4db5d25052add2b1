"""Starts processes by forking the loader, and waits for them as `subprocess` waits for its processes."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from app.wiring.parent import tie_to

log = structlog.get_logger()

_PR_SET_CHILD_SUBREAPER = 36
# Loading takes seconds on a busy machine; a fork takes milliseconds.
_LOADED_WITHIN_S = 60.0
_FORKED_WITHIN_S = 10.0


class Forked:
    """A forked process, with the methods of `subprocess.Popen` that the supervisor uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait for the end of the process."""
        return self._wait(0)

    def terminate(self) -> None:
        """Ask the process to end."""
        # Not yet waited for, the process keeps its id.
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _adopt_orphans(is_wanted: bool) -> bool:
    """Make this process, and no longer the system's first, the parent of orphans among its descendants."""
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0) == 0)


def bury_orphans(group: int) -> None:
    """Take note of ended processes of a process group that have become children of this process."""
    with suppress(ChildProcessError):
        while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG) is not None:
            pass


class Loader:
    """The loader, seen from the supervisor; on Linux only, and only for `PYTHON -m MODULE …`.

    Where the loader can't be had, or has ended, processes are started without it.
    """

    def __init__(self, environ: Mapping[str, str], cwd: Path) -> None:
        self._environ = environ
        self._cwd = cwd
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the loader; None where there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the loader, and return once it has loaded."""
        if sys.platform != "linux":
            return
        # A forked process whose intermediate parent has ended becomes a child of this process.
        if not _adopt_orphans(True):
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - the command is our own
                [sys.executable, "-m", "app.cli.up.loader", str(theirs.fileno()), str(os.getpid())],
                env=dict(self._environ),
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                preexec_fn=tie_to(os.getpid()),
            )
        self._channel = ours
        self._answer(_LOADED_WITHIN_S)

    def fork(self, name: str, command: Sequence[str], fds: Mapping[int, int]) -> Forked | None:
        """Start a process; return None where the loader can't start it.

        Args:
            name: the name of the process in `ps -o comm` and `top`; the command line is that of the loader.
            command: the command line.
            fds: the descriptors of the process, by their numbers there.
        """
        python, *rest = command
        if self._channel is None or python != sys.executable or rest[:1] != ["-m"]:
            return None
        request = {"name": [name], "command": rest[1:], "fds": list(fds)}
        try:
            socket.send_fds(self._channel, [json.dumps(request).encode()], list(fds.values()))
        except OSError:
            self._lose()
            return None
        answer = self._answer(_FORKED_WITHIN_S)
        return Forked(int(answer)) if answer else None

    def stop(self) -> None:
        """End the loader; the forked processes go on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
            _adopt_orphans(False)

    def _answer(self, within_s: float) -> bytes:
        channel = self._channel
        if channel is None:
            return b""
        channel.settimeout(within_s)
        try:
            answer = channel.recv(64)
        except OSError:
            answer = b""
        if not answer:
            self._lose()
        return answer

    def _lose(self) -> None:
        log.warning("loader.lost", next="processes are started one by one, and take more memory")
        self.stop()
