"""The connections to one upstream: opens them, keeps idle ones for the next call, watches over the busy ones."""

import asyncio
import ssl

from app.adapters.upstream.answer_memory import AnswerMemory
from app.adapters.upstream.connecting import Connector, Resolve, resolve
from app.adapters.upstream.connection import Connection
from app.adapters.upstream.faults import CannotConnect, ConnectTimedOut, ServerDisconnected
from app.adapters.upstream.target import Target

# uvicorn and node close a connection that was idle for 5 s; one taken up before that is not closed under a request.
_KEEPALIVE_S = 4.0
# How late a timeout may be noticed. One timer for all calls in place of one for each; limits are seconds and minutes.
_SWEEP_S = 0.05
# Closing takes a turn or two of the loop; past this something is broken, and the loop's end closes it.
_CLOSE_WAIT_S = 1.0


class Pool:
    """Connections to one server, as many as there are calls at once. Belongs to the loop that runs when it is made.

    Args:
        target: the server.
        connect_timeout_s: for name, connection and TLS together.
        silence_s: the longest time without data while an answer is awaited.
        max_body_bytes: the most of a body that is kept, as it comes over the wire.
        memory: what large answers share; one of this pool's own where left out.
        resolve: asks for the addresses of a name.
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
        # The last one is the one used last, so that those too many grow old at the start.
        self._idle: list[Connection] = []
        self._sweeping: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._is_closed = False

    def now(self) -> float:
        """Return the loop's time, which deadlines are in."""
        return self._loop.time()

    def take(self) -> Connection | None:
        """Return an idle connection for a call that is made at once; None where there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_open and self._loop.time() - connection.idle_since < _KEEPALIVE_S:
                self._watch()
                return connection
            connection.abort()
        return None

    async def connect(self, timeout_s: float) -> Connection:
        """Open a connection for a call that is made at once.

        Raises:
            CannotConnect: there is none to be had, ConnectTimedOut in the time for it.
            TimeoutError: `timeout_s`, which the whole call has left, is shorter than that and is over.
        """
        limit_s = min(self._connect_timeout_s, timeout_s)
        try:
            async with asyncio.timeout(limit_s) as scope:
                connection = await self._create()
        # A name that is no name fails as a UnicodeError, a port past the last one as an OverflowError, and uvloop says
        # some faults of sockets as a RuntimeError.
        except (OSError, UnicodeError, OverflowError, RuntimeError) as fault:
            # The system has a TimeoutError of its own, for packets that nobody answers.
            if not scope.expired():
                # A connection that the server closes while TLS is agreed on breaks without a word.
                why = str(fault) or "the server closed it at once"
                raise CannotConnect(f"{type(fault).__name__}: {why} ({self._target.authority})") from fault
            if timeout_s <= self._connect_timeout_s:
                raise
            raise ConnectTimedOut(f"within {self._connect_timeout_s:g} s") from fault
        if self._is_closed:
            connection.abort()
            raise ServerDisconnected("the client was closed")
        # One that the server closed already is not coming back to be forgotten.
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
        """End calls whose time is up and connections that were idle for long; again while calls are in flight."""
        now = self._loop.time()
        is_busy = False
        for connection in tuple(self._open):
            is_busy |= connection.check(now)
        while self._idle and now - self._idle[0].idle_since >= _KEEPALIVE_S:
            self._idle.pop(0).abort()
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep) if is_busy else None
