"""`SignalWatch` in a process of its own, since it takes over a process's signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.processes import until

# Ignores the signals that it is told and no others, whatever the tests themselves ignore; then watches until it is to
# end.
WATCHES = """
import signal, sys
for name in ("SIGHUP", "SIGINT", "SIGTERM"):
    signal.signal(signal.Signals[name], signal.SIG_IGN if name in sys.argv else signal.SIG_DFL)
from app.cli.up.signals import SignalWatch
watch = SignalWatch()
print("watching", flush=True)
while not watch.is_stopping:
    watch.wait(0.05)
"""


@contextmanager
def watching(*ignored: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-c", WATCHES, *ignored], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "watching\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_each_signal_to_stop_ends_the_watch(name: str) -> None:
    with watching() as process:
        os.kill(process.pid, signal.Signals[name])

        assert until(lambda: process.poll() is not None, 20, "it ends")
        assert process.returncode == 0


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
def test_a_signal_that_was_ignored_from_the_start_stays_ignored(name: str) -> None:
    with watching(name) as process:
        os.kill(process.pid, signal.Signals[name])
        # Signals of one sender are seen in the order of their numbers, and SIGTERM's is the highest of the three: the
        # process has met the ignored one before it ends.
        os.kill(process.pid, signal.SIGTERM)

        assert until(lambda: process.poll() is not None, 20, "it ends")
        assert process.returncode == 0
