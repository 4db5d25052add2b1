"""Start the measured programs, and end the programs with their children."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

API_KEY = "wy-benchmark"
# Time to create a database and start seven processes on a busy machine.
_READY_WITHIN_S = 60.0
# `wylon up` promises 10 s.
_END_WITHIN_S = 15.0
_READY = re.compile(r"^ready (http://\S+)$", re.MULTILINE)
_WYLON = str(Path(sys.executable).with_name("wylon"))


def exit_on_sigterm() -> None:
    """Have SIGTERM raise SystemExit, so that each context ends the processes that it started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@dataclass(frozen=True)
class Deployment:
    """A running `wylon up`: the API's URL, the data folder and the supervisor."""

    url: str
    data: Path
    process: psutil.Process

    def pid_of(self, name: str) -> int | None:
        """Return the id of a process, for example `worker-1`; None while the process is absent."""
        try:
            return int((self.data / "run" / f"{name}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def environ(self) -> dict[str, str]:
        """Return the environment of the deployment's processes."""
        return psutil.Process(self.pid_of("worker-1")).environ()

    def names(self) -> list[str]:
        """Return the names of the processes."""
        return sorted(path.stem for path in (self.data / "run").glob("*.pid"))


@contextmanager
def upstream(folder: Path, *options: str) -> Iterator[str]:
    """Run the stand-in upstream; yields the base URL."""
    with _running([_WYLON, "upstream", "--port", "0", *options], folder / "upstream.log", {}) as (url, _):
        yield url


@contextmanager
def deployment(
    data: Path, upstreams: str | Path, *options: str, settings: Mapping[str, str] | None = None
) -> Iterator[Deployment]:
    """Run `wylon up` in a new folder or in the folder of an earlier run; two workers unless an option says otherwise.

    Args:
        data: the folder; made if missing.
        upstreams: the base URL of a single upstream, or a `wylon.toml`.
        options: more options of the command.
        settings: environment variables.
    """
    data.mkdir(parents=True, exist_ok=True)
    named = ["--config", str(upstreams)] if isinstance(upstreams, Path) else ["--upstream", upstreams]
    command = [_WYLON, "up", "--port", "0", "--data", str(data), *named, "--workers", "2", *options]
    environ = {"WYLON_API_KEY": API_KEY, "WYLON_LOG_LEVEL": "warning", **(settings or {})}
    with _running(command, data / "up.log", environ) as (url, process):
        yield Deployment(url, data, process)


@contextmanager
def _running(command: list[str], log: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, psutil.Process]]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WYLON_")}
    # A file, not a pipe: a pipe would fill up, unread during the measurement.
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**inherited, **environ}, start_new_session=True
        )
    try:
        yield _await_ready(started, log), psutil.Process(started.pid)
    finally:
        _end(started)


def _await_ready(started: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline and started.poll() is None:
        if found := _READY.search(log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"{started.args!r} did not get ready:\n{log.read_text(errors='replace')[-4_000:]}")


def _end(started: subprocess.Popen[bytes]) -> None:
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(started.pid).children(recursive=True)
    started.terminate()
    try:
        started.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
