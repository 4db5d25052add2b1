"""gunicorn's worker as we change it, in a thread of the test, with an app of a few lines."""

import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger

from app.api.server import GuardedThreads

WITHIN_S = 10.0
# Far above what a stop may take.
GRACE_S = 30
KEEPALIVE_S = 75
REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
HELLO = b"hello"

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def say_hello(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("content-length", str(len(HELLO)))])
    return [HELLO]


def settings(**changes: object) -> Config:
    cfg = Config()
    for name, value in {"threads": 2, "keepalive": KEEPALIVE_S, "graceful_timeout": GRACE_S, **changes}.items():
        cfg.set(name, value)
    return cfg


def build(listener: socket.socket, app: App, cfg: Config) -> GuardedThreads:
    """Return a worker with all that `init_process` makes, except signals and the loop."""
    listener.setblocking(False)
    worker = GuardedThreads(1, os.getppid(), [listener], None, GRACE_S, cfg, Logger(cfg))
    worker.wsgi = app
    worker.tpool = worker.get_thread_pool()
    worker.poller = selectors.DefaultSelector()
    worker.method_queue.init()
    worker.prepare()
    return worker


@contextmanager
def running(app: App = say_hello, **changes: object) -> Iterator[tuple[GuardedThreads, threading.Thread]]:
    """A worker, and the thread its loop runs in until the worker is told to stop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = build(listener, app, settings(**changes))
        loop = threading.Thread(target=worker.run)
        loop.start()
        try:
            yield worker, loop
        finally:
            worker.handle_exit(None, None)
            loop.join(GRACE_S + WITHIN_S)
            worker.tmp.close()


@contextmanager
def stepped(**changes: object) -> Iterator[GuardedThreads]:
    """A worker whose loop goes round when the test says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = build(listener, say_hello, settings(**changes))
        worker.set_accept_enabled(True)
        try:
            yield worker
        finally:
            worker.murder_keepalived(force=True)
            worker.tpool.shutdown()
            worker.poller.close()
            worker.method_queue.close()
            worker.tmp.close()


def connect(worker: GuardedThreads) -> socket.socket:
    return socket.create_connection(worker.sockets[0].getsockname(), timeout=WITHIN_S)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Return what comes up to and with this end, or until the server closes."""
    data = b""
    while not data.endswith(end) and (piece := connection.recv(65_536)):
        data += piece
    return data
