"""One caller's connection: its socket gives and takes what it can at once, and no thread waits for it."""

import enum
import socket
from selectors import BaseSelector
from typing import Any

import structlog

from app.api.answer import Answer
from app.api.body_gathering import BodyGathering
from app.api.pace import PATIENCE_S, Pace

log = structlog.get_logger()

# What a caller may send piece by piece before it is looked at only now and then, and how large a piece is no drip.
_FREE_PIECES = 16
_DRIP_BYTES = 1024


class Phase(enum.Enum):
    """What a connection waits for, while no thread has it."""

    HEAD = "the head of a request"
    BODY = "the body of a request"
    ANSWER = "the caller to take more of the answer"
    LINGER = "the caller to have read the answer, and to close"


class Outlet:
    """The way out, as gunicorn's response takes it for a socket: what the caller does not take at once is kept."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._kept = bytearray()
        # What went out since it was last asked for.
        self.sent = 0

    def gettimeout(self) -> float:
        """Say that nothing here waits, which gunicorn wants to know."""
        return 0.0

    def sendall(self, data: bytes) -> None:
        """Send what goes at once and keep the rest; OSError where the caller is gone."""
        if not self._kept:
            data = data[self._send(data) :]
        self._kept += data

    def flush(self) -> bool:
        """Send what goes at once of what was kept; return whether nothing is left."""
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
    """What is known of a connection between two looks at it."""

    def __init__(self, sock: socket.socket, client: Any, server: Any, patience_s: float = PATIENCE_S) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.client = client
        self.server = server
        self.outlet = Outlet(sock)
        # What has come and belongs to no body: the head, and what came together with it.
        self.received = bytearray()
        self.head = b""
        self.body: BodyGathering | None = None
        # The rest of an answer that the caller has not taken yet.
        self.answer: Answer | None = None
        self.phase = Phase.HEAD
        # The instant at which the wait ends, by the monotonic clock, and at which it began.
        self.ends_at = 0.0
        self.waits_since = 0.0
        self.lingers_until = 0.0
        # The poller that looks at it; None while it rests, or a thread has it.
        self.watched_by: BaseSelector | None = None
        self._patience_s = patience_s
        self.pace = Pace(patience_s)
        self._drips = 0

    def begin_request(self) -> None:
        """Forget how slow the caller has been with the request before."""
        self.pace = Pace(self._patience_s)
        self._drips = 0
        self.head = b""

    def count_piece(self, size: int) -> None:
        """Count bytes that came at once."""
        self.pace.earn(size)
        self._drips = self._drips + 1 if size < _DRIP_BYTES else 0

    @property
    def is_dripping(self) -> bool:
        """Whether the last many pieces were tiny."""
        return self._drips > _FREE_PIECES

    def take_body(self) -> BodyGathering | None:
        """Return the body that is gathered, which is the caller's to close."""
        body, self.body = self.body, None
        return body

    def close(self) -> None:
        """Let go of everything."""
        if self.body is not None:
            self.body.close()
        if self.answer is not None:
            try:
                self.answer.close()
            except Exception:
                # Closing an answer runs code of the view; the socket goes all the same.
                log.warning("answer.not_closed", exc_info=True)
        self.sock.close()
