"""Connections that wait for their callers, in a single loop."""

import time
from collections import deque
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

from app.api.connection import Connection, Phase

# The pause between reads of a dripping connection: the bytes of a pause are read together.
_REST_S = 0.25


class WaitingRoom:
    """Holds connections without a thread, and calls back when a connection can go on."""

    def __init__(self, look: Callable[[Connection], None]) -> None:
        """Begin empty.

        Args:
            look: called in the loop with a connection whose caller has sent bytes, or reads bytes again.
        """
        self._look = look
        # In the order of waiting, the longest wait first.
        self._waiting: dict[Connection, None] = {}
        # Dripping connections, each with the instant of the next look.
        self._resting: deque[tuple[float, Connection]] = deque()

    def __contains__(self, conn: object) -> bool:
        return conn in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def all(self) -> list[Connection]:
        """Return the connections, the longest wait first."""
        return [*self._waiting]

    def oldest(self) -> Connection | None:
        """Return the connection with the longest wait, or None."""
        return next(iter(self._waiting), None)

    def enter(self, poller: BaseSelector, conn: Connection, phase: Phase, ends_at: float) -> None:
        """Let a connection wait; a dripping connection is looked at later."""
        conn.phase, conn.ends_at, conn.waits_since = phase, ends_at, time.monotonic()
        self._waiting[conn] = None
        if conn.is_dripping and phase is not Phase.ANSWER:
            self._resting.append((conn.waits_since + _REST_S, conn))
        else:
            self._watch(poller, conn)

    def rest(self, conn: Connection) -> None:
        """Look at a connection later if its caller drips; the connection waits on."""
        if conn.is_dripping and conn in self._waiting and conn.watched_by is not None:
            self._unwatch(conn)
            self._resting.append((time.monotonic() + _REST_S, conn))

    def leave(self, conn: Connection) -> None:
        """Let a connection go on; an unknown connection is ignored."""
        if conn in self._waiting:
            del self._waiting[conn]
            self._unwatch(conn)

    def shorten(self, timeout_s: float) -> float:
        """Return how long the loop may wait for events."""
        if not self._resting:
            return timeout_s
        return max(0.0, min(timeout_s, self._resting[0][0] - time.monotonic()))

    def wake(self, poller: BaseSelector) -> None:
        """Look again at the dripping connections whose pause is over."""
        now = time.monotonic()
        while self._resting and self._resting[0][0] <= now:
            conn = self._resting.popleft()[1]
            if conn in self._waiting and conn.watched_by is None:
                self._watch(poller, conn)

    def _watch(self, poller: BaseSelector, conn: Connection) -> None:
        event = EVENT_WRITE if conn.phase is Phase.ANSWER else EVENT_READ
        poller.register(conn.sock, event, lambda _sock: self._notice(conn))
        conn.watched_by = poller

    def _unwatch(self, conn: Connection) -> None:
        if conn.watched_by is not None:
            conn.watched_by.unregister(conn.sock)
            conn.watched_by = None

    def _notice(self, conn: Connection) -> None:
        # Another event of the same turn may have closed the connection.
        if conn in self._waiting:
            self._look(conn)
