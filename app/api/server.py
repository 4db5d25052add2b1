"""gunicorn's worker with threads, changed so that no thread ever waits for a caller.

          ┌────────────────── kept alive ◀──────────────────┐
accepted ─┴▶ head ─▶ thread ─┬─ wants more ─▶ body ─▶ thread ─┬▶ answer ─▶ lingering ──▶ closed
                             └────────────────────────────────┘

gunicorn's gthread gives every connection a thread, and the thread waits for a slow head, body or reader. Here the loop
waits for every connection at once: a thread holds a connection only while the thread can work without waiting for the
caller. The loop closes a connection below the required pace. Health checks have their own threads.
"""

import errno
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from app.api.connection import Connection, Phase
from app.api.exchange import Exchanges, Next
from app.api.pace import BodyTooSlow
from app.api.refusals import refusal
from app.api.server_start import PlainStart
from app.api.waiting_room import WaitingRoom

# Counted from the head's first byte; a browser or client sends a head in a single packet.
HEAD_WITHIN_S = 10.0
# gunicorn allows a head of 100 fields of 8 kB: too much memory for thousands of connections.
MAX_HEAD_BYTES = 64 * 1024
# Discard bytes for 30 s at most from a caller that still sends while its answer is on the way (RFC 9112 9.6).
_LINGER_S = 30.0
# A caller silent for two seconds has read the answer.
_LINGER_SILENCE_S = 2.0
_PIECE_BYTES = 64 * 1024
_DRAIN_BYTES = 1024 * 1024
_LOOK_EVERY_S = 0.5
# Descriptors for the database, files and other uses besides connections.
_OTHER_FILES = 256
_WANTED_FILES = 65_536
# Threads that read and write disks for callers.
_TRANSFER_THREADS = 8
# Paths with reserved threads, which other requests can't take.
_HEALTH = ("/healthz", "/readyz")
_HEALTH_THREADS = 2


class GuardedThreads(PlainStart):
    """The web process's worker class, named on gunicorn's command line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # By default gunicorn lets callers on this machine set certain WSGI variables by headers.
        self.cfg.set("forwarder_headers", "")
        self._waiting = WaitingRoom(self._look)
        self._looked_at = 0.0

    def init_process(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = _WANTED_FILES if most == resource.RLIM_INFINITY else min(most, _WANTED_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        self.worker_connections: int = max(2, min(self.cfg.worker_connections, files - _OTHER_FILES))
        super().init_process()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        self._transfers = ThreadPoolExecutor(_TRANSFER_THREADS, "transfer")
        self._health = {path: ThreadPoolExecutor(_HEALTH_THREADS, path[1:]) for path in _HEALTH}
        return ThreadPoolExecutor(self.cfg.threads, "request")

    def prepare(self) -> None:
        """Make the runner of requests, after loading the application."""
        folder: Path | None = getattr(self.wsgi, "config", {}).get("GATHERING_FOLDER")
        self.exchanges = Exchanges(self.cfg, self.wsgi, self.log, folder)

    def run(self) -> None:
        self.prepare()
        super().run()
        for pool in (self._transfers, *self._health.values()):
            pool.shutdown(wait=False)
        getattr(self.wsgi, "config", {}).get("AT_STOP", lambda: None)()

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as fault:
            if fault.errno in {errno.EMFILE, errno.ENFILE}:
                self._close_oldest()
            elif fault.errno not in {errno.EAGAIN, errno.ECONNABORTED}:
                raise
            return
        self.nr_conns += 1
        # Stay below the number at which the loop stops accepting: a new connection replaces the longest-waiting one.
        if self.nr_conns >= self.worker_connections:
            self._close_oldest()
        self._await_head(Connection(sock, address, listener.getsockname()), self.cfg.keepalive)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(self._waiting.shorten(timeout))
        self._waiting.wake(self.poller)

    def finish_request(self, conn: Connection, done: Future[Next]) -> None:
        """Go on with a connection after a thread's work; runs in the loop."""
        self._go_on_with(conn, Next.CLOSE if done.exception() is not None else done.result())

    def _go_on_with(self, conn: Connection, then: Next) -> None:
        if then is Next.HEAD:
            self._await_head(conn, HEAD_WITHIN_S if conn.received else self.cfg.keepalive)
        elif then is Next.BODY:
            self._await_body(conn)
        elif then is Next.ANSWER:
            self._wait(conn, Phase.ANSWER, conn.pace.left_s)
        elif then is Next.TURN:
            self._go_on(conn)
        elif then is Next.LINGER:
            self._linger(conn)
        else:
            self._close(conn)

    def murder_pending(self) -> None:
        """End connections that have waited for too long."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        self.exchanges.is_keeping_alive = self.alive
        for conn in [conn for conn in self._waiting.all() if conn.ends_at <= now]:
            if conn.phase is Phase.BODY and conn.body is not None:
                conn.body.fault = BodyTooSlow()
                self._await_body(conn)
            elif conn.phase is Phase.HEAD and conn.received:
                self._refuse(conn, HTTPStatus.REQUEST_TIMEOUT)
            else:
                self._close(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        for conn in self._waiting.all() if force else ():
            self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        self.exchanges.is_keeping_alive = False
        for conn in self._waiting.all():
            if conn.phase in (Phase.HEAD, Phase.LINGER):
                conn.ends_at = min(conn.ends_at, deadline)

    def _look(self, conn: Connection) -> None:
        """Go on with a connection after an event on its socket."""
        conn.pace.spend(time.monotonic() - conn.waits_since)
        if conn.phase is Phase.HEAD:
            self._take_head(conn)
        elif conn.phase is Phase.BODY:
            self._take_body(conn)
        elif conn.phase is Phase.ANSWER:
            self._go_on(conn)
        else:
            self._drain(conn)

    def _await_head(self, conn: Connection, within_s: float) -> None:
        if not self._pass_on(conn, len(conn.received)):
            self._wait(conn, Phase.HEAD, within_s)

    def _take_head(self, conn: Connection) -> None:
        data = _receive(conn, _PIECE_BYTES)
        if data is None:
            return
        if not data:
            self._close(conn)
            return
        if not conn.received:
            conn.ends_at = self._end_of(HEAD_WITHIN_S)
        conn.received += data
        conn.count_piece(len(data))
        if not self._pass_on(conn, len(data)):
            self._waiting.rest(conn)

    def _pass_on(self, conn: Connection, new_bytes: int) -> bool:
        """Give a connection with a whole head to a thread, refuse a head too long; return False if neither applies."""
        # The head's end may begin up to three bytes before the new bytes.
        if conn.received.find(b"\r\n\r\n", max(0, len(conn.received) - new_bytes - 3)) >= 0:
            self._submit(self._pool_of(conn), self.exchanges.begin, conn)
            return True
        if len(conn.received) > MAX_HEAD_BYTES:
            self._refuse(conn, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return True
        return False

    def _pool_of(self, conn: Connection) -> Executor:
        target = bytes(conn.received[:64]).split(b" ", 2)
        path = target[1].partition(b"?")[0].decode("latin-1") if len(target) > 1 else ""
        pool: Executor = self.tpool
        return self._health.get(path, pool)

    def _await_body(self, conn: Connection) -> None:
        if conn.body is None:
            self._close(conn)
        elif conn.body.is_over:
            self._submit(self.tpool, self.exchanges.complete, conn)
        else:
            self._wait(conn, Phase.BODY, conn.pace.left_s)

    def _take_body(self, conn: Connection) -> None:
        if conn.body is None or not conn.body.is_small:
            # The body goes to a file, and the disk may be slow.
            self._submit(self._transfers, _gather, conn)
        else:
            self._waiting.leave(conn)
            self._go_on_with(conn, _gather(conn))

    def _go_on(self, conn: Connection) -> None:
        self._submit(self._transfers, self._send, conn)

    def _send(self, conn: Connection) -> Next:
        begun = conn.outlet.sent
        then = self.exchanges.go_on(conn)
        conn.pace.earn(conn.outlet.sent - begun)
        return then

    def _refuse(self, conn: Connection, status: HTTPStatus) -> None:
        with suppress(OSError):
            conn.outlet.sendall(refusal(status))
        self._linger(conn)

    def _linger(self, conn: Connection) -> None:
        """Close, but let the answer arrive: the peer may still be sending, and reads only after sending."""
        self._waiting.leave(conn)
        try:
            conn.outlet.flush()
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        conn.lingers_until = time.monotonic() + _LINGER_S
        self._wait(conn, Phase.LINGER, _LINGER_SILENCE_S)

    def _drain(self, conn: Connection) -> None:
        data = _receive(conn, _DRAIN_BYTES)
        if data is None:
            return
        now = time.monotonic()
        if not data or now > conn.lingers_until:
            self._close(conn)
            return
        conn.ends_at = min(self._end_of(_LINGER_SILENCE_S), conn.lingers_until)
        conn.count_piece(len(data))
        self._waiting.rest(conn)

    def _submit(self, pool: Executor, act: Callable[[Connection], Next], conn: Connection) -> None:
        self._waiting.leave(conn)
        done = pool.submit(act, conn)
        done.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))

    def _wait(self, conn: Connection, phase: Phase, within_s: float) -> None:
        self._waiting.enter(self.poller, conn, phase, self._end_of(within_s))

    def _end_of(self, within_s: float) -> float:
        # A wait that begins while the process ends comes after `_cap_keepalive`, and would cost the whole grace period.
        return time.monotonic() + (within_s if self.alive else min(within_s, _LINGER_SILENCE_S))

    def _close(self, conn: Connection) -> None:
        self._waiting.leave(conn)
        self.nr_conns -= 1
        conn.close()

    def _close_oldest(self) -> None:
        conn = self._waiting.oldest()
        if conn is not None:
            self._close(conn)


def _gather(conn: Connection) -> Next:
    """Take the bytes of a body that have come."""
    received = conn.body.receive(conn.sock) if conn.body is not None else None
    if received is None:
        return Next.CLOSE
    if received:
        conn.count_piece(received)
    return Next.BODY


def _receive(conn: Connection, most_bytes: int) -> bytes | None:
    """Return received bytes; empty if the peer is gone, None if no bytes have come."""
    try:
        return conn.sock.recv(most_bytes, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""
