"""The start of gunicorn and of its worker: a failed start is one line of the log and the exit code 1."""

import logging
import sys
from typing import Any

from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.errors import HaltServer  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

_CONNECTION = "connection to "
# Told once by the line that follows.
_REPEATED = ("Connection in use: %s", "Invalid address: %s")
# Told by the worker that could not start.
_WORKER_ENDED, _ARBITER_ENDED = "Worker (pid:%s) exited with code %s.", ("Shutting down: %s", "Reason: %s")


class PlainStart(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's worker with threads, with plain words for a failed start."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise RuntimeError(
                "The API does not speak TLS itself: leave out --certfile and --keyfile, and put a proxy in front of it "
                "that does, such as nginx or Caddy."
            )
        super().check_config(cfg, log)
        cfg.set("on_exit", _end_with_one)

    def load_wsgi(self) -> None:
        try:
            super().load_wsgi()
        except SystemExit:
            # The log has the reason. By this code the arbiter ends too, and starts no other worker.
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class FailedStart(logging.Filter):
    """Makes one line of gunicorn's ten lines on an address that can't be used, and drops the echo of a told fault."""

    def __init__(self) -> None:
        super().__init__()
        self._fault = ""

    def filter(self, record: logging.LogRecord) -> bool:
        said, args = str(record.msg), record.args
        if said.startswith(_CONNECTION):
            self._fault = said.removeprefix(_CONNECTION)
            return False
        if said == "Can't connect to %s":
            record.msg = (
                "No start, as the address can't be used: %s. Choose another WYLON_HOST or WYLON_PORT, or end the "
                "process that listens there."
            )
            record.args = (self._fault,)
        if said == _WORKER_ENDED and isinstance(args, tuple):
            return bool(args[1] != Arbiter.WORKER_BOOT_ERROR)
        return said not in _REPEATED and not (said in _ARBITER_ENDED and record.levelno >= logging.ERROR)


def _end_with_one(_arbiter: Arbiter) -> None:
    """End the arbiter after a failed start with 1, as other processes of wylon end; gunicorn has codes of its own."""
    if isinstance(sys.exc_info()[1], HaltServer):
        sys.exit(1)
