"""A caller's connection: the socket reads and writes without blocking, and no thread waits for the caller."""

import enum
import socket
from selectors import BaseSelector
from typing import Any

import structlog

from app.api.answer import Answer
from app.api.body_gathering import BodyGathering
from app.api.pace import PATIENCE_S, Pace

log = structlog.get_logger()

# The tiny pieces in a row before the loop reads a caller only now and then, and the size of a piece not tiny.
_FREE_PIECES = 16
_DRIP_BYTES = 1024


class Phase(enum.Enum):
    """The event a connection waits for while no thread holds the connection."""

    HEAD = "the head of a request"
    BODY = "the body of a request"
    ANSWER = "the caller to take more of the answer"
    LINGER = "the caller to have read the answer, and to close"


class Outlet:
    """The outgoing side, used by gunicorn's response as a socket; keeps bytes the caller does not take at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._kept = bytearray()
        # Bytes sent since the connection began.
        self.sent = 0

    def gettimeout(self) -> float:
        """Tell gunicorn that the outlet never blocks."""
        return 0.0

    def sendall(self, data: bytes) -> None:
        """Send the bytes the socket takes at once and keep the rest; OSError if the caller is gone."""
        if not self._kept:
            data = data[self._send(data) :]
        self._kept += data

    def flush(self) -> bool:
        """Send the kept bytes the socket takes at once; return whether the outlet is empty."""
        if self._kept:
            del self._kept[: self._send(self._kept)]
        return not self._kept

    def _send(self, data: bytes | bytearray) -> int:
        try:
            sent = self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        self.sent += sent
        return sent


class Connection:
    """The state of a connection between events."""

    def __init__(self, sock: socket.socket, client: Any, server: Any, patience_s: float = PATIENCE_S) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.client = client
        self.server = server
        self.outlet = Outlet(sock)
        # Received bytes outside of a body: the head, and bytes that came together with the head.
        self.received = bytearray()
        self.head = b""
        self.body: BodyGathering | None = None
        # An answer not yet taken whole by the caller.
        self.answer: Answer | None = None
        self.phase = Phase.HEAD
        # The instants of the wait's end and beginning, by the monotonic clock.
        self.ends_at = 0.0
        self.waits_since = 0.0
        self.lingers_until = 0.0
        # The poller that watches the socket; None while the connection rests or a thread holds the connection.
        self.watched_by: BaseSelector | None = None
        self._patience_s = patience_s
        self.pace = Pace(patience_s)
        self._drips = 0

    def begin_request(self) -> None:
        """Forget the caller's pace in the request before."""
        self.pace = Pace(self._patience_s)
        self._drips = 0
        self.head = b""

    def count_piece(self, size: int) -> None:
        """Count bytes received in a single piece."""
        self.pace.earn(size)
        self._drips = self._drips + 1 if size < _DRIP_BYTES else 0

    @property
    def is_dripping(self) -> bool:
        """Whether a long row of tiny pieces came last."""
        return self._drips > _FREE_PIECES

    def take_body(self) -> BodyGathering | None:
        """Return the gathered body; the caller of the method closes the body."""
        body, self.body = self.body, None
        return body

    def close(self) -> None:
        """Close the body, the answer and the socket."""
        if self.body is not None:
            self.body.close()
        if self.answer is not None:
            try:
                self.answer.close()
            except Exception:
                # Closing an answer runs the view's code; close the socket even if the view's code fails.
                log.warning("answer.not_closed", exc_info=True)
        self.sock.close()
