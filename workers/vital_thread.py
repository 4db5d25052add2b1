"""Threads essential to a worker process."""

import os
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()

# Exit status of the process; in sysexits.h, an internal software error.
_EXIT_CODE = 70


def vital_thread(name: str, run: Callable[[], None]) -> threading.Thread:
    """Return a thread whose failure ends the process.

    A worker without the thread would look alive and hold its tasks for ever. A dead worker is started again, and its
    tasks run elsewhere within seconds.
    """

    def guarded() -> None:
        try:
            run()
        except BaseException:
            log.critical("thread.died", thread=name, exc_info=True)
            os._exit(_EXIT_CODE)

    return threading.Thread(target=guarded, name=name, daemon=True)
