"""Ties a process to the parent process: no process may outlive the supervisor."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def tie_to(parent: int) -> Callable[[], None] | None:
    """Return a function that has the kernel kill the calling process when `parent` ends; None outside Linux.

    The tie is not inherited: every process must call the function itself.
    """
    if sys.platform != "linux":
        return None
    # Load the library before a fork: as little as possible may happen after the fork.
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def end_with_parent() -> None:
    """Make this process end with its parent, as a gunicorn worker ends with the arbiter."""
    if (tie := tie_to(os.getppid())) is not None:
        tie()
