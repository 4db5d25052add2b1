"""The signals and looks that faults have for single processes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


def family(pid: int) -> list[psutil.Process]:
    """Return the process and its children, such as those of gunicorn."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def freeze(pid: int) -> None:
    for process in family(pid):
        with suppress(psutil.NoSuchProcess):
            process.suspend()


def thaw(pid: int) -> None:
    for process in family(pid):
        with suppress(psutil.NoSuchProcess):
            process.resume()


def kill(pid: int) -> float:
    """End it as a crash would; return the instant of the last thing it did."""
    # Frozen first, so that the instant is the same for what it calls and what it commits.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    at = time.monotonic()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return at


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def file_size_limit(pid: int, limit_bytes: int) -> Iterator[None]:
    """Let no file that the process writes pass this size: every write beyond fails, as on a disk that is full."""
    processes = family(pid)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(psutil.RLIMIT_FSIZE, (limit_bytes, psutil.RLIM_INFINITY))
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
