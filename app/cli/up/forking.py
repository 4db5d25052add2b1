"""Starts processes by forking the loader, and waits for them as `subprocess` waits for its processes."""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from app.wiring.parent import tie_to

log = structlog.get_logger()

_PR_SET_CHILD_SUBREAPER = 36
# Loading takes seconds on a busy machine; a fork takes milliseconds.
_LOADED_WITHIN_S = 60.0
_FORKED_WITHIN_S = 2.0
_LOOK_EVERY_S = 0.1
# The command lines of forked processes are shown in the place of the loader's, which has to be longer.
_ROOM_FOR_COMMANDS = " " * 1024


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
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:
                # Somebody else has waited for the process: it has ended, nobody knows how. `subprocess` says 0 as well.
                self.returncode = 0
            else:
                if pid == self.pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _adopt_orphans(is_wanted: bool) -> bool:
    """Make this process, and no longer the system's first, the parent of orphans among its descendants."""
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0) == 0)


def bury_orphans(known: Collection[int]) -> None:
    """Take note of ended processes that have become children of this process; `known` are for others to wait for."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in known:
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)


class Loader:
    """The loader, seen from the supervisor; on Linux only, and only for `PYTHON -m MODULE …`.

    Where the loader can't be had, or has ended, processes are started without it.
    """

    def __init__(self, environ: Mapping[str, str], cwd: Path, *, forked_within_s: float = _FORKED_WITHIN_S) -> None:
        self._environ = dict(environ)
        self._cwd = cwd
        self._forked_within_s = forked_within_s
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the loader; None where there is none."""
        return None if self._process is None else self._process.pid

    def start(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Start the loader, and return once it has loaded, or at a stop."""
        if sys.platform != "linux":
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - the command is our own
                [
                    *(sys.executable, "-m", "app.cli.up.loader", str(theirs.fileno()), str(os.getpid())),
                    _ROOM_FOR_COMMANDS,
                ],
                env=self._environ,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                preexec_fn=tie_to(os.getpid()),
            )
        self._channel = ours
        deadline = time.monotonic() + _LOADED_WITHIN_S
        while time.monotonic() < deadline and not select.select([ours], [], [], _LOOK_EVERY_S)[0]:
            if should_stop():
                return
        self._answer(_LOOK_EVERY_S)

    def suits(self, environ: Mapping[str, str], cwd: Path) -> bool:
        """Whether a forked process has this environment and this folder: it has those of the loader."""
        return dict(environ) == self._environ and cwd == self._cwd

    def look(self, known: Collection[int]) -> None:
        """Notice the end of the loader, and take note of the ends of further children, such as gunicorn's workers.

        Args:
            known: the children for which somebody else waits.
        """
        if self._process is not None and self._process.poll() is not None:
            self._lose()
        if sys.platform == "linux":
            bury_orphans({*known, *((self.pid,) if self.pid else ())})

    def fork(self, name: str, command: Sequence[str], fds: Mapping[int, int]) -> Forked | None:
        """Start a process; return None where the loader can't start it.

        Args:
            name: the name of the process in `ps -o comm` and `top`.
            command: the command line.
            fds: the descriptors of the process, by their numbers there.
        """
        python, *rest = command
        if self._channel is None or python != sys.executable or rest[:1] != ["-m"]:
            return None
        # A forked process, whose intermediate parent has ended, becomes a child of this process.
        if not _adopt_orphans(True):
            return None
        request = {"name": [name], "command": rest[1:], "fds": list(fds)}
        # A forked process runs nothing before this process knows of it: the loader may end, or stand still, before it
        # answers, and the process would run beside the process that is started instead.
        may_go, go = os.pipe()
        try:
            socket.send_fds(self._channel, [json.dumps(request).encode()], [may_go, *fds.values()])
            answer = self._answer(self._forked_within_s)
            if answer:
                os.write(go, b"1")
        except OSError:
            self._lose()
            return None
        finally:
            os.close(may_go)
            os.close(go)
        return Forked(int(answer)) if answer else None

    def stop(self) -> None:
        """End the loader; the forked processes go on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            # It has nothing to lose; a process that stands still ends by no other signal.
            self._process.kill()
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
