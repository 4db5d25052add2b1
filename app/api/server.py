"""gunicorn's worker with threads, made so that callers who are slow, idle or many don't keep the others waiting.

          ┌──────────── kept alive ◀────────────┐
accepted ─┴▶ gathering ── whole head ──▶ thread ─┴▶ lingering ──▶ closed
                └────── too slow, too long ─────────▲

gthread itself gives a thread to each new connection before it has sent anything, lets it wait there for a slow head or
body without end, and closes connections in the loop that serves all others, for up to 2 s each. Here a connection waits
in that loop until its head is whole, and again while it closes; in a thread its socket is paced.
"""

import errno
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from threading import BoundedSemaphore
from typing import Any

from gunicorn.http.errors import InvalidHeader, UnsupportedTransferCoding  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from app.api.paced_socket import BodyTooSlow, PacedSocket, TooManySlow

# From its first byte on; a browser or client sends a head in one packet.
HEAD_WITHIN_S = 10.0
# gunicorn's own bound allows 100 fields of 8 kB each, which so many connections must not hold.
MAX_HEAD_BYTES = 64 * 1024
# For the callers whose answer is on its way while they still send; RFC 9112 9.6.
_LINGER_S = 2.0
_MAX_LINGER_BYTES = 4 * 1024 * 1024
# The rest of a body that nobody reads has come by then, or the connection is closed.
_REST_WITHIN_S = 0.1
_PIECE_BYTES = 64 * 1024
_LOOK_EVERY_S = 0.5
# For the database, files and whatever else is open beside connections.
_OTHER_FILES = 256
_WANTED_FILES = 65_536
# Of the threads, so many are left for requests that wait for nobody.
_SPARE_THREADS = 4
_CLOSE = b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_HEAD_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large" + _CLOSE
_HEAD_TOO_SLOW = b"HTTP/1.1 408 Request Timeout" + _CLOSE


class _Connection(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """A connection, and what has come of a head that is not whole yet."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.head = bytearray()
        self.drained = 0
        self.ends_at = 0.0
        self.is_closing = False


class GuardedThreads(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """The web's worker class, by its name on gunicorn's command line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # gunicorn would let callers on this machine set the WSGI variables of these names by headers.
        self.cfg.set("forwarder_headers", "")
        self._slots = BoundedSemaphore(max(1, self.cfg.threads - self.cfg.threads // _SPARE_THREADS))
        # Those that no thread has, the one that has waited longest first.
        self._waiting: dict[_Connection, None] = {}
        self._looked_at = 0.0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise RuntimeError(
                "The API does not speak TLS itself: leave out --certfile and --keyfile, and put a proxy in front of it "
                "that does, such as nginx or Caddy."
            )
        super().check_config(cfg, log)

    def init_process(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = _WANTED_FILES if most == resource.RLIM_INFINITY else min(most, _WANTED_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        self.worker_connections: int = max(2, min(self.cfg.worker_connections, files - _OTHER_FILES))
        super().init_process()

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
        # One below the number at which the loop no longer accepts: whoever comes next gets the place of the idlest.
        if self.nr_conns >= self.worker_connections:
            self._close_oldest()
        paced = PacedSocket(sock, self._slots)
        conn = _Connection(self.cfg, paced, address, listener.getsockname())
        self._gather(conn, b"", self.cfg.keepalive)

    def handle(self, conn: _Connection) -> Any:
        """Serve a request whose head is there; in a thread."""
        conn.init()
        conn.parser.unreader.unread(bytes(conn.head))
        conn.head.clear()
        conn.sock.begin_request()
        return super().handle(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if isinstance(exc, BodyTooSlow | TooManySlow):
            return
        if isinstance(exc, UnsupportedTransferCoding):
            # The caller's mistake and no fault of ours, which the 501 of gunicorn says.
            exc = InvalidHeader(str(exc))
        super().handle_error(req, client, addr, exc)

    def finish_request(self, conn: _Connection, done: Future[Any]) -> None:
        """Go on with a connection that a thread is done with; in the loop."""
        if done.exception() is not None or not done.result():
            self._linger(conn)
            return
        # The start of the next request may have come with the body of this one.
        start = conn.parser.unreader.take_buffered()
        self._gather(conn, start, HEAD_WITHIN_S if start else self.cfg.keepalive)

    def murder_pending(self) -> None:
        """Close what has waited for too long."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        for conn in [conn for conn in self._waiting if conn.ends_at <= now]:
            if conn.head and not conn.is_closing:
                self._refuse(conn, _HEAD_TOO_SLOW)
            else:
                self._close(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        for conn in [*self._waiting] if force else ():
            self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        for conn in self._waiting:
            conn.ends_at = min(conn.ends_at, deadline)

    def _keepalive_after(self, conn: _Connection, keepalive: Any) -> bool:
        deadline = time.monotonic() + _REST_WITHIN_S
        return bool(keepalive and conn.parser.finish_body(deadline=deadline))

    def _gather(self, conn: _Connection, start: bytes, within_s: float) -> None:
        conn.head += start
        if not self._pass_on(conn, len(start)):
            self._wait(conn, within_s, self._take_head)

    def _take_head(self, conn: _Connection, _sock: object) -> None:
        if conn not in self._waiting:
            # Closed, by an event of the same turn, after this one was noticed.
            return
        data = _receive(conn)
        if data is None:
            return
        if not data:
            self._close(conn)
            return
        if not conn.head:
            conn.ends_at = self._end_of(HEAD_WITHIN_S)
        conn.head += data
        self._pass_on(conn, len(data))

    def _pass_on(self, conn: _Connection, new_bytes: int) -> bool:
        """Give the connection to a thread if its head is whole, refuse it if that is too long."""
        # Its end may have begun up to three bytes before what is new.
        if conn.head.find(b"\r\n\r\n", max(0, len(conn.head) - new_bytes - 3)) >= 0:
            self._leave(conn)
            conn.data_ready = True
            self.enqueue_req(conn)
            return True
        if len(conn.head) > MAX_HEAD_BYTES:
            self._refuse(conn, _HEAD_TOO_LONG)
            return True
        return False

    def _refuse(self, conn: _Connection, answer: bytes) -> None:
        with suppress(OSError):
            conn.sock.send(answer, socket.MSG_DONTWAIT)
        self._linger(conn)

    def _linger(self, conn: _Connection) -> None:
        """Close, but let what was sent arrive: the peer may still be sending."""
        self._leave(conn)
        conn.is_closing = True
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        self._wait(conn, _LINGER_S, self._drain)

    def _drain(self, conn: _Connection, _sock: object) -> None:
        if conn not in self._waiting:
            return
        data = _receive(conn)
        if data is None:
            return
        conn.drained += len(data)
        if not data or conn.drained > _MAX_LINGER_BYTES:
            self._close(conn)

    def _wait(self, conn: _Connection, within_s: float, on_readable: Callable[[_Connection, object], None]) -> None:
        conn.sock.setblocking(False)
        conn.ends_at = self._end_of(within_s)
        self._waiting[conn] = None
        self.poller.register(conn.sock, EVENT_READ, partial(on_readable, conn))

    def _end_of(self, within_s: float) -> float:
        # What begins to wait while the process ends comes after `_cap_keepalive`, and would cost the whole grace.
        return time.monotonic() + (within_s if self.alive else min(within_s, _LINGER_S))

    def _leave(self, conn: _Connection) -> None:
        if conn in self._waiting:
            del self._waiting[conn]
            self.poller.unregister(conn.sock)

    def _close(self, conn: _Connection) -> None:
        self._leave(conn)
        self.nr_conns -= 1
        conn.close()

    def _close_oldest(self) -> None:
        if self._waiting:
            self._close(next(iter(self._waiting)))


def _receive(conn: _Connection) -> bytes | None:
    """Return what has come, nothing where the peer is gone, None where there is nothing yet."""
    try:
        data: bytes = conn.sock.recv_now(_PIECE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    return data
