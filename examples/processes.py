"""Starts `wylon` commands for the examples, and ends them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# `wylon up` starts seven processes, on a machine that may be busy with others.
READY_WITHIN_S = 150
# `wylon up` promises to end within 10 s.
END_WITHIN_S = 15
_READY = re.compile(rb"^ready (\S+)$", re.MULTILINE)


@contextmanager
def running(name: str, command: list[str], log: Path, **settings: str) -> Iterator[str]:
    """Run a command that prints `ready URL`, with these settings; yields the URL, and ends the command at the end."""
    with log.open("wb") as output:
        # A session of its own: ctrl-C ends the example, which then ends what it started, in order.
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **settings}
        )
    try:
        yield _await_url(name, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wylon(*arguments: str) -> list[str]:
    """Return the command line of `wylon` as installed beside this Python."""
    return [str(Path(sys.executable).with_name("wylon")), *arguments]


def _await_url(name: str, process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if found := _READY.search(log.read_bytes()):
            return found[1].decode()
        if process.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit(f"{name} did not start:\n{log.read_text(errors='replace')[-3000:]}")
