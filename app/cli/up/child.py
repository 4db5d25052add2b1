"""A supervised process."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from app.cli.up.backoff import Backoff
from app.cli.up.forking import Forked, Loader
from app.wiring.parent import tie_to


@dataclass(frozen=True)
class ChildSpec:
    """How to run a process; with `log` None the output goes to the terminal."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    cwd: Path
    log: Path | None = None
    inherited_fds: tuple[int, ...] = ()
    # The broker starts first and ends last.
    is_broker: bool = False


@dataclass
class Child:
    """A process, and the earliest time of the next start."""

    spec: ChildSpec
    # Starts Python processes with less memory.
    loader: Loader | None = None
    process: subprocess.Popen[bytes] | Forked | None = None
    backoff: Backoff = field(default_factory=Backoff)
    exit_code: int | None = None
    _started_at: float = 0.0
    _start_at: float = 0.0

    @property
    def is_running(self) -> bool:
        """Whether the process has started, and `reap` has not seen its end."""
        return self.process is not None

    def is_due(self, now: float) -> bool:
        """Whether to start the process now."""
        return self.process is None and now >= self._start_at

    def start(self) -> int:
        """Start the process; return the process id."""
        with ExitStack() as stack:
            output = stack.enter_context(self.spec.log.open("ab")) if self.spec.log else None
            self.process = self._fork(output) or subprocess.Popen(  # noqa: S603 - the commands are our own
                list(self.spec.command),
                env=dict(self.spec.environ),
                cwd=self.spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                pass_fds=self.spec.inherited_fds,
                # Own process group: ctrl-C on the terminal reaches only the supervisor, which ends children in order.
                start_new_session=True,
                preexec_fn=tie_to(os.getpid()),
            )
        self._started_at = time.monotonic()
        return self.process.pid

    def _fork(self, output: BinaryIO | None) -> Forked | None:
        if self.loader is None or not self.loader.suits(self.spec.environ, self.spec.cwd):
            return None
        streams = {} if output is None else dict.fromkeys((1, 2), output.fileno())
        return self.loader.fork(
            self.spec.name, self.spec.command, {**streams, **{fd: fd for fd in self.spec.inherited_fds}}
        )

    def reap(self) -> bool:
        """Return whether the process has ended since the last call; after an end, plan the next start."""
        if self.process is None or self.process.poll() is None:
            return False
        self.exit_code = self.process.returncode
        # Children left behind, for example gunicorn's workers, would hold the port or take tasks.
        self._signal_group(signal.SIGKILL)
        self.process = None
        now = time.monotonic()
        self._start_at = now + self.backoff.delay_s(now - self._started_at)
        return True

    def terminate(self) -> None:
        """Ask the process to end."""
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """End the process and its children at once."""
        if self.process is not None:
            self._signal_group(signal.SIGKILL)
            self.process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
