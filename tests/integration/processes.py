"""Real processes for tests: started with a log each, waited for, and ended with all children."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

# Starting Python processes on a busy machine with two cores.
START_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05
WYLON = str(Path(sys.executable).with_name("wylon"))
_READY = re.compile(r"^ready (http://\S+)$", re.MULTILINE)


def until(look: Callable[[], T], within_s: float, what: str, *, every_s: float = _LOOK_EVERY_S) -> T:
    """Return the first true value of `look`; fail without a true value in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s; the last look saw {found!r}"
        time.sleep(every_s)


def environ_of(settings: Mapping[str, object]) -> dict[str, str]:
    """Return this process's environment with only these settings of wylon, and without proxies."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WYLON_", "OPENAI_")) and not name.lower().endswith("_proxy")
    }
    return {**inherited, **{f"WYLON_{name}": str(value) for name, value in settings.items()}}


_OWN_FAULTS = ("event=line.broke", "event=thread.died", "exception was never retrieved")


class Process:
    """One running command."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str], cwd: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command), stdout=output, stderr=output, env=dict(environ), cwd=cwd, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while the process runs."""
        return self._process.poll()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def await_address(self) -> str:
        """Return the address that the process prints once ready."""

        def look() -> str | None:
            assert self.exit_code is None, f"It ended with {self.exit_code}: {self.said()[-2_000:]}"
            found = _READY.search(self.said())
            return found[1] if found else None

        return until(look, START_WITHIN_S, f"{self.log.name} says that it is ready")

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def terminate(self, within_s: float) -> int:
        """Ask the process to end; return the exit code."""
        self._process.terminate()
        return self._process.wait(within_s)

    def end(self) -> None:
        """End the process with all children, politely first."""
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.pid).children(recursive=True)
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(12)
        except subprocess.TimeoutExpired:
            self.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def own_faults(folder: Path) -> list[str]:
    """Return the log lines below a folder that report a defect of wylon, and no fault from outside.

    Recovery hides such a defect from a test of the outcome: the work ends, only late.
    """
    logs = sorted(folder.rglob("*.log"))
    return [
        f"{log.name}: {line}"
        for log in logs
        for line in log.read_text(errors="replace").splitlines()
        if any(mark in line for mark in _OWN_FAULTS)
    ]


def start_upstream(folder: Path, *options: str, port: int = 0) -> tuple[Process, str]:
    """Start the stand-in model server; return the process and the base URL."""
    command = [WYLON, "upstream", "--port", str(port), "--track", *options]
    process = Process(command, folder / f"upstream-{time.monotonic_ns()}.log", environ_of({}), folder)
    return process, process.await_address()
