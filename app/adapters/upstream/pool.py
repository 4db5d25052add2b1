"""The connections to one upstream: opens connections, keeps idle ones for the next call, watches the busy ones."""

import asyncio
import ssl

from app.adapters.upstream.answer_memory import AnswerMemory
from app.adapters.upstream.connecting import Connector, Resolve, resolve
from app.adapters.upstream.connection import Connection
from app.adapters.upstream.faults import CannotConnect, ConnectTimedOut, ServerDisconnected
from app.adapters.upstream.target import Target

# uvicorn and node close a connection after 5 s of idleness; a connection reused earlier is not closed during a request.
_KEEPALIVE_S = 4.0
# How late a timeout may be noticed. A single timer serves all calls, because the limits are seconds and minutes.
_SWEEP_S = 0.05
# Closing takes an iteration or two of the loop. After this time something is broken, and the loop closes the rest at
# its end.
_CLOSE_WAIT_S = 1.0


class Pool:
    """Connections to a server, one per call in flight. Belongs to the loop that runs when the pool is made.

    Args:
        target: the server.
        connect_timeout_s: for name, connection and TLS together.
        silence_s: the longest time without data while an answer is awaited.
        max_body_bytes: the most bytes of a body to keep, counted as received.
        memory: the budget shared by large answers; a budget of this pool where left out.
        resolve: returns the addresses of a name.
    """

    def __init__(
        self,
        target: Target,
        *,
        connect_timeout_s: float,
        silence_s: float,
        max_body_bytes: int,
        memory: AnswerMemory | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._connect_timeout_s = connect_timeout_s
        self._silence_s = silence_s
        self._max_body_bytes = max_body_bytes
        self._memory = memory or AnswerMemory()
        self._connector = Connector(target.host, target.port, resolve)
        self._tls = ssl.create_default_context() if target.is_tls else None
        self._open: set[Connection] = set()
        # The connection used last comes last, so that surplus connections age at the start.
        self._idle: list[Connection] = []
        self._sweeping: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._is_closed = False

    def now(self) -> float:
        """Return the loop's time, the clock of every deadline."""
        return self._loop.time()

    def take(self, now: float) -> Connection | None:
        """Return an idle connection for a call that is made at once, or None; `now` is the loop's time."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_open and now - connection.idle_since < _KEEPALIVE_S:
                self._watch()
                return connection
            connection.abort()
        return None

    async def connect(self, timeout_s: float) -> Connection:
        """Open a connection for a call that is made at once.

        Raises:
            CannotConnect: no connection came about; ConnectTimedOut where the connect timeout was over.
            TimeoutError: `timeout_s`, the time left to the call, was shorter than the connect timeout and is over.
        """
        limit_s = min(self._connect_timeout_s, timeout_s)
        try:
            async with asyncio.timeout(limit_s) as scope:
                connection = await self._create()
        # A malformed name raises a UnicodeError, a port above the last port an OverflowError, and uvloop reports some
        # faults of sockets as a RuntimeError.
        except (OSError, UnicodeError, OverflowError, RuntimeError) as fault:
            # The system raises a TimeoutError of its own when packets stay unanswered.
            if not scope.expired():
                # A connection that the server closes during the TLS handshake breaks without a message.
                why = str(fault) or "the server closed it at once"
                raise CannotConnect(f"{type(fault).__name__}: {why} ({self._target.authority})") from fault
            if timeout_s <= self._connect_timeout_s:
                raise
            raise ConnectTimedOut(f"within {self._connect_timeout_s:g} s") from fault
        if self._is_closed:
            connection.abort()
            raise ServerDisconnected("the client was closed")
        # A connection already closed by the server has reported its loss, and would never be forgotten.
        if connection.is_open:
            self._open.add(connection)
            self._watch()
        return connection

    async def close(self) -> None:
        """Close all connections; calls in flight end with ServerDisconnected."""
        self._is_closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._idle.clear()
        for connection in tuple(self._open):
            connection.fail(ServerDisconnected("the client was closed"))
        if self._open:
            self._emptied = self._loop.create_future()
            await asyncio.wait([self._emptied], timeout=_CLOSE_WAIT_S)

    async def _create(self) -> Connection:
        sock = await self._connector.connect()
        try:
            _, connection = await self._loop.create_connection(
                self._make, sock=sock, ssl=self._tls, server_hostname=self._target.host if self._tls else None
            )
        except BaseException:
            sock.close()
            raise
        return connection

    def _make(self) -> Connection:
        return Connection(
            self._loop,
            silence_s=self._silence_s,
            max_body_bytes=self._max_body_bytes,
            memory=self._memory,
            on_idle=self._idle.append,
            on_lost=self._forget,
        )

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def _watch(self) -> None:
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """End calls past a deadline and connections idle for too long; repeat while calls are in flight."""
        now = self._loop.time()
        is_busy = False
        for connection in tuple(self._open):
            is_busy |= connection.check(now)
        while self._idle and now - self._idle[0].idle_since >= _KEEPALIVE_S:
            self._idle.pop(0).abort()
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep) if is_busy else None
