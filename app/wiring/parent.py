"""Ties a process to the one that started it, so that nothing outlives its supervisor."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def tie_to(parent: int) -> Callable[[], None] | None:
    """Return a function that has the kernel kill the calling process when `parent` ends; None where it can't.

    Linux alone can. The tie is not inherited: each process has to call the function by itself.
    """
    if sys.platform != "linux":
        return None
    # Loaded before a fork: behind it, as little as possible may happen.
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def end_with_parent() -> None:
    """Have this process end with its parent, as a process of gunicorn ends with the arbiter."""
    if (tie := tie_to(os.getppid())) is not None:
        tie()
