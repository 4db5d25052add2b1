"""gunicorn's worker as we change it, run in a thread of the test with an app of a few lines."""

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from app.api.server import GuardedThreads
from tests.integration.processes import until

WITHIN_S = 10.0
GRACE_S = 30
KEEPALIVE_S = 75
REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def settings(**changes: object) -> Config:
    cfg = Config()
    for name, value in {"threads": 2, "keepalive": KEEPALIVE_S, "graceful_timeout": GRACE_S, **changes}.items():
        cfg.set(name, value)
    return cfg


def say_hello(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("content-length", "5")])
    return [b"hello"]


@contextmanager
def prepared(app: App = say_hello, **changes: object) -> Iterator[GuardedThreads]:
    """A worker that listens on a free port, with all that `init_process` makes, signals excepted."""
    cfg = settings(**changes)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        worker = GuardedThreads(1, os.getppid(), [listener], None, 30, cfg, Logger(cfg))
        worker.wsgi = app
        worker.tpool = worker.get_thread_pool()
        worker.poller = selectors.DefaultSelector()
        worker.method_queue.init()
        yield worker
        worker.murder_keepalived(force=True)
        worker.tpool.shutdown()
        worker.poller.close()
        worker.method_queue.close()
        worker.tmp.close()


@contextmanager
def running(app: App = say_hello, **changes: object) -> Iterator[tuple[GuardedThreads, threading.Thread]]:
    with prepared(app, **changes) as worker:
        loop = threading.Thread(target=worker.run)
        loop.start()
        try:
            yield worker, loop
        finally:
            worker.handle_quit if False else worker.handle_exit(None, None)
            loop.join(GRACE_S + WITHIN_S)


def connect(worker: GuardedThreads) -> socket.socket:
    return socket.create_connection(worker.sockets[0].getsockname(), timeout=WITHIN_S)
