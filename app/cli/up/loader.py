"""A process that loads what all processes need, once, and forks them: the forked processes share that memory.

`python -m app.cli.up.loader CHANNEL PARENT` is started by the supervisor, with the environment and the folder of the
processes. It has a single thread. A forked process becomes a child of the supervisor, and runs `-m MODULE …` as a
Python started anew would.
"""

import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from app.cli.up.process_title import show_command
from app.wiring.parent import tie_to

# Modules that read no setting while they are imported. A missing one costs memory only.
_MODULES = (
    "app.adapters.upstream.balanced",
    "app.api.server",
    "app.api.server_logs",
    "app.wiring.control",
    "app.wiring.lines",
    "app.wiring.start",
    "app.wiring.web",
    "celery.app.amqp",
    "celery.app.log",
    "celery.backends.redis",
    "celery.bin.celery",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "celery.worker.worker",
    "gunicorn.app.wsgiapp",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvloop",
    "workers.engine",
    "workers.heartbeat",
    "workers.lane",
    "workers.line_process",
    "workers.transport",
    "workers.writer",
)
_PR_SET_NAME = 15
_MOST_BYTES = 64 * 1024
_MOST_FDS = 8


def main(channel_fd: int, parent: int) -> None:
    """Fork a process for each request, until the supervisor closes the channel."""
    channel = socket.socket(fileno=channel_fd)
    show_command(f"{sys.executable} -m app.cli.up.loader")
    _load()
    channel.send(b"loaded")
    while True:
        request, fds, _, _ = socket.recv_fds(channel, _MOST_BYTES, _MOST_FDS)
        if not request:
            return
        pid = _fork()
        if pid is None:
            channel.close()
            # The interpreter ends the process, with its exit code, as any other: the module's exceptions are for it.
            _run(json.loads(request), fds, parent)
            return
        channel.send(str(pid).encode())
        for fd in fds:
            os.close(fd)


def _load() -> None:
    for name in _MODULES:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    # The collector would write to each object, and so copy each page.
    gc.freeze()


def _fork() -> int | None:
    """Fork a process and return its id; None in the process itself.

    The process is forked through an intermediate process, whose end makes it a child of the supervisor.
    """
    reader, writer = os.pipe()
    intermediate = os.fork()
    if intermediate == 0:
        is_intermediate = True
        try:
            is_intermediate = os.fork() != 0
        finally:
            if is_intermediate:
                os._exit(0)
        os.close(reader)
        # The supervisor signals the group of a process from the moment at which it knows the id.
        os.setsid()
        # Without the loader nobody reads the id, and no byte comes by which the process may go on.
        with suppress(BrokenPipeError):
            os.write(writer, str(os.getpid()).encode())
        os.close(writer)
        return None
    os.close(writer)
    pid = int(os.read(reader, 32))
    os.close(reader)
    os.waitpid(intermediate, 0)
    return pid


def _run(request: dict[str, list[str]], fds: Sequence[int], parent: int) -> None:
    """Run the module of a request in this process."""
    go, *given = fds
    if not os.read(go, 1):
        # The supervisor does not know this process, and starts another.
        os._exit(0)
    os.close(go)
    tie = tie_to(parent)
    if tie is not None:
        # Ends the process where the supervisor has ended.
        tie()
    module, *arguments = request["command"]
    ctypes.CDLL(None).prctl(_PR_SET_NAME, request["name"][0].encode())
    show_command(" ".join((sys.executable, "-m", module, *arguments)))
    _place(given, [int(number) for number in request["fds"]])
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _place(fds: Sequence[int], numbers: Sequence[int]) -> None:
    """Give the received descriptors their numbers, and only these."""
    # Out of the way first: a number may be that of another received descriptor.
    free = max((*fds, *numbers), default=0) + 1
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, free) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(moved, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
