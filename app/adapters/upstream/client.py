"""The HTTP client that calls model servers: the hot path of a worker, so it does nothing that it can leave out."""

import asyncio

from app.adapters.upstream.answer_memory import AnswerMemory
from app.adapters.upstream.answer_reader import Reply
from app.adapters.upstream.connection import Connection
from app.adapters.upstream.faults import (
    AnswerCutOff,
    AnswerGarbled,
    CannotConnect,
    ConnectTimedOut,
    HostGone,
    NothingHeard,
)
from app.adapters.upstream.pool import Pool
from app.adapters.upstream.reading import read_answer
from app.adapters.upstream.target import Target, read_target
from app.domain.limits import MAX_ANSWER_BYTES
from app.domain.result import CONNECT_TIMED_OUT, CONNECTION_FAILED, INVALID_RESPONSE, REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.services.ports import Answer

_MAX_MESSAGE_CHARS = 500
_TIMED_OUT = Answer(Trouble.FLAKY, error=REQUEST_TIMEOUT)


class HttpUpstream:
    """One model server, or a proxy before several. Belongs to the event loop that makes its first call.

    Proxies that the environment names are not used.

    Args:
        base_url: what stands in the place of `/v1` before each endpoint, such as `http://127.0.0.1:8000/v1`.
        api_key: sent as a bearer token where given.
        connect_timeout_s: for name, connection and TLS together.
        first_byte_timeout_s: the longest silence, before the answer begins and amid it.
        max_answer_bytes: the largest body that is taken, decompressed.
        memory: what the large answers of all upstreams share; of this one alone where left out.

    Raises:
        ValueError: the URL or the key is none that a request can be made with.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        connect_timeout_s: float,
        first_byte_timeout_s: float,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        memory: AnswerMemory | None = None,
    ) -> None:
        self._target = read_target(base_url)
        self._headers = _request_headers(self._target, api_key)
        self._heads: dict[str, bytes] = {}
        self._connect_timeout_s = connect_timeout_s
        self._first_byte_timeout_s = first_byte_timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._memory = memory or AnswerMemory()
        self._pool: Pool | None = None

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        if timeout_s <= 0:
            return _TIMED_OUT
        try:
            pool = self._pool or self._open()
            deadline = pool.now() + timeout_s
            head = self._heads.get(endpoint) or self._add_head(endpoint)
            # The body of a decoded line is a msgspec.Raw, which is typed as bytes and is none; bytes come back as
            # they are.
            body = bytes(body)
            kept = pool.take()
            try:
                reply = await _post(kept or await pool.connect(timeout_s), head, body, deadline)
            except NothingHeard:
                if kept is None:
                    raise
                # The server closed the kept connection, most likely as it was idle, while the request was on its way.
                fresh = await pool.connect(deadline - pool.now())
                reply = await _post(fresh, head, body, deadline)
            return read_answer(reply, self._max_answer_bytes)
        # A line's outcome must be recorded whatever happens: an exception that nobody foresaw included.
        except Exception as error:
            return self._failed(error)

    async def close(self) -> None:
        """Close the connections; calls in flight come back as flaky."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _open(self) -> Pool:
        self._pool = Pool(
            self._target,
            connect_timeout_s=self._connect_timeout_s,
            silence_s=self._first_byte_timeout_s,
            max_body_bytes=self._max_answer_bytes,
            memory=self._memory,
        )
        return self._pool

    def _add_head(self, endpoint: str) -> bytes:
        head = f"POST {self._target.path_of(endpoint)} HTTP/1.1\r\n{self._headers}content-length: ".encode()
        self._heads[endpoint] = head
        return head

    def _failed(self, error: Exception) -> Answer:
        """Sort what was raised in the place of an answer; the order matters, as some derive from others."""
        if isinstance(error, ConnectTimedOut):
            return _away(CONNECT_TIMED_OUT, f"No connection to the upstream within {self._connect_timeout_s:g} s.")
        # TLS errors are among these; no line can help any of them.
        if isinstance(error, CannotConnect):
            return _away(CONNECTION_FAILED, f"No connection to the upstream: {_printable(str(error))}")
        if isinstance(error, HostGone):
            return _away(CONNECTION_FAILED, f"The upstream is gone: {_said(error)}")
        if isinstance(error, TimeoutError):
            return _TIMED_OUT
        if isinstance(error, AnswerCutOff):
            return _flaky(INVALID_RESPONSE, f"The upstream's answer was cut off: {_said(error)}")
        if isinstance(error, AnswerGarbled):
            return _flaky(INVALID_RESPONSE, f"The upstream's answer is garbled: {_said(error)}")
        return _flaky(CONNECTION_FAILED, f"The connection to the upstream broke: {_said(error)}")


async def _post(connection: Connection, head: bytes, body: bytes, deadline: float) -> Reply:
    answering = connection.post(head, body, deadline)
    try:
        return await answering
    except asyncio.CancelledError:
        connection.give_up(answering)
        raise


def _request_headers(target: Target, api_key: str | None) -> str:
    # Compressed answers are read but not asked for: over a local network they cost more than they save.
    lines = [f"host: {target.authority}", "content-type: application/json", "user-agent: wylon"]
    if api_key:
        if not api_key.isprintable():
            raise ValueError("The upstream's API key holds a character that no header can carry.")
        lines.append(f"authorization: Bearer {api_key}")
    return "".join(f"{line}\r\n" for line in lines)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {_printable(str(error))}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_MESSAGE_CHARS])


def _away(code: str, message: str) -> Answer:
    return Answer(Trouble.AWAY, error=(code, message))


def _flaky(code: str, message: str) -> Answer:
    return Answer(Trouble.FLAKY, error=(code, message))
