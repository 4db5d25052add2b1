"""Threads that a worker process can't do without."""

import os
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()

# What the process ends with, in the words of sysexits.h: an internal software error.
_EXIT_CODE = 70


def vital_thread(name: str, run: Callable[[], None]) -> threading.Thread:
    """Return a thread whose failure ends the process.

    A worker that lost one would look alive and hold its tasks for ever; a dead one is started again, and what it held
    runs elsewhere within seconds.
    """

    def guarded() -> None:
        try:
            run()
        except BaseException:
            log.critical("thread.died", thread=name, exc_info=True)
            os._exit(_EXIT_CODE)

    return threading.Thread(target=guarded, name=name, daemon=True)
