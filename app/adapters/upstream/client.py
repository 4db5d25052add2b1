"""The HTTP client that calls model servers. This is the hot path of a worker, so the client leaves out all it can."""

import asyncio
import math
from collections.abc import Sequence

from app.adapters.upstream.answer_memory import AnswerMemory
from app.adapters.upstream.answer_reader import Reply
from app.adapters.upstream.calling import LimitsByModel, with_members
from app.adapters.upstream.connection import Connection
from app.adapters.upstream.faults import (
    AnswerCutOff,
    AnswerGarbled,
    CannotConnect,
    ConnectTimedOut,
    FellSilent,
    HostGone,
    NothingHeard,
    Withheld,
)
from app.adapters.upstream.pool import Pool
from app.adapters.upstream.reading import read_answer
from app.adapters.upstream.target import Target, read_target
from app.domain.limits import MAX_ANSWER_BYTES
from app.domain.result import CONNECT_TIMED_OUT, CONNECTION_FAILED, INVALID_RESPONSE, REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.domain.upstream import TimeLimit, TimeLimits
from app.services.ports import ANYBODY, Answer, Caller

_MAX_MESSAGE_CHARS = 500
_OF_A_POST = "content-type: application/json\r\ncontent-length: "
WITHHELD = Answer(Trouble.WITHHELD, error=(CONNECTION_FAILED, "No call was made: the line is not to be sent now."))
_TIMED_OUT = Answer(Trouble.FLAKY, error=REQUEST_TIMEOUT)


class HttpUpstream:
    """A model server, or a proxy before several servers. Belongs to the event loop that makes the first call.

    Proxies named by the environment are not used.

    Args:
        base_url: replaces `/v1` at the start of every endpoint, such as `http://127.0.0.1:8000/v1`.
        api_key: sent as a bearer token where given.
        connect_timeout_s: for name, connection and TLS together.
        first_byte_timeout_s: the longest silence before and during the answer, where `limits` are left out.
        limits: the longest silence, and the longest time of a whole call, by model.
        query: the text after the question mark of every request's URL.
        headers: more headers of every request.
        body: members to add to every request's body that lacks them, with the members' JSON.
        secrets: texts beside the key that no message may show.
        max_answer_bytes: the largest body to accept, decompressed.
        memory: the budget shared by large answers of several upstreams; a budget of this client where left out.

    Raises:
        ValueError: no request can be made with the URL or the key.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        connect_timeout_s: float,
        first_byte_timeout_s: float,
        limits: LimitsByModel | None = None,
        query: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: Sequence[tuple[str, bytes]] = (),
        secrets: Sequence[str] = (),
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        memory: AnswerMemory | None = None,
    ) -> None:
        self._target = read_target(base_url)
        self._query = f"?{query}" if query else ""
        self._headers = _request_headers(self._target, api_key, headers)
        self._body = tuple(body)
        self._secrets = [secret for secret in (api_key, *secrets) if secret]
        self._limits = limits or LimitsByModel(_unnamed_limits(first_byte_timeout_s))
        self._heads: dict[str, bytes] = {}
        self._connect_timeout_s = connect_timeout_s
        self._silence_s = first_byte_timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._memory = memory or AnswerMemory()
        self._pool: Pool | None = None

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        if timeout_s <= 0:
            return _TIMED_OUT
        # The body of a decoded line is a msgspec.Raw, typed as bytes without being bytes; bytes come back unchanged.
        body = bytes(body)
        limits = self._limits.of(body)
        if self._body:
            body = with_members(body, self._body)
        silence_s, longest_s = limits.first_byte.seconds, limits.call.seconds
        # None until the connection is there.
        deadline: float | None = None
        connection: Connection | None = None
        answering: asyncio.Future[Reply] | None = None
        try:
            pool = self._pool or self._open()
            now = pool.now()
            ends_at = now + timeout_s
            head = self._heads.get(endpoint) or self._add_head(endpoint)
            kept = connection = pool.take(now)
            if connection is None:
                connection = await _connect(pool, timeout_s, caller)
                now = pool.now()
            deadline = min(ends_at, now + longest_s)
            answering = connection.post(head, body, deadline, silence_s)
            try:
                reply = await answering
            except NothingHeard:
                if kept is None:
                    raise
                # The server closed the kept connection while the request was on its way, most likely because it was
                # idle.
                connection = await _connect(pool, ends_at - pool.now(), caller)
                answering = connection.post(head, body, deadline, silence_s)
                reply = await answering
            if "content-encoding" in reply.headers:
                # Unpacking may turn a small answer, which is not counted, into a large answer.
                async with asyncio.timeout(deadline - pool.now()):
                    await self._memory.wait_for_room()
            answer = read_answer(reply, self._max_answer_bytes)
            return answer if answer.error is None else self._without_secrets(answer)
        except asyncio.CancelledError:
            if answering is not None and connection is not None:
                connection.give_up(answering)
            raise
        except FellSilent:
            return _limit_met("No byte came from the upstream", limits.first_byte)
        except TimeoutError:
            if timeout_s < longest_s:
                return _TIMED_OUT
            if deadline is None:
                return self._failed(ConnectTimedOut(f"within {timeout_s:g} s"))
            return _limit_met("The call took as long", limits.call)
        # The outcome of a line must be recorded whatever happens, even after an unforeseen exception.
        except Exception as error:
            return self._without_secrets(self._failed(error))

    async def get(self, endpoint: str, timeout_s: float) -> Answer:
        """Send a GET request to the endpoint, over a new connection."""
        head = f"GET {self._target.path_of(endpoint)}{self._query} HTTP/1.1\r\n{self._headers}\r\n".encode()
        try:
            pool = self._pool or self._open()
            deadline = pool.now() + timeout_s
            connection = await pool.connect(timeout_s)
            reply = await _answer_to(connection, connection.send(head, deadline))
            return self._without_secrets(read_answer(reply, self._max_answer_bytes))
        except TimeoutError:
            return _TIMED_OUT
        except Exception as error:
            return self._without_secrets(self._failed(error))

    async def close(self) -> None:
        """Close the connections; calls in flight come back as flaky."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _open(self) -> Pool:
        self._pool = Pool(
            self._target,
            connect_timeout_s=self._connect_timeout_s,
            silence_s=self._silence_s,
            max_body_bytes=self._max_answer_bytes,
            memory=self._memory,
        )
        return self._pool

    def _add_head(self, endpoint: str) -> bytes:
        head = f"POST {self._target.path_of(endpoint)}{self._query} HTTP/1.1\r\n{self._headers}{_OF_A_POST}".encode()
        self._heads[endpoint] = head
        return head

    def _without_secrets(self, answer: Answer) -> Answer:
        """Return the answer without secrets in the message, which may show text from the server."""
        if answer.error is None or not self._secrets:
            return answer
        code, message = answer.error
        for secret in self._secrets:
            message = message.replace(secret, "…")
        return answer._replace(error=(code, message))

    def _failed(self, error: Exception) -> Answer:
        """Return the answer for an exception. The order of the checks matters: some exceptions derive from others."""
        if isinstance(error, Withheld):
            return WITHHELD
        if isinstance(error, ConnectTimedOut):
            return _away(CONNECT_TIMED_OUT, f"No connection to the upstream {error}.")
        # Includes TLS errors; a line is never the cause.
        if isinstance(error, CannotConnect):
            return _away(CONNECTION_FAILED, f"No connection to the upstream: {_printable(str(error))}")
        if isinstance(error, HostGone):
            return _away(CONNECTION_FAILED, f"The upstream is gone: {_said(error)}")
        if isinstance(error, AnswerCutOff):
            return _flaky(INVALID_RESPONSE, f"The upstream's answer was cut off: {_said(error)}")
        if isinstance(error, AnswerGarbled):
            return _flaky(INVALID_RESPONSE, f"The upstream's answer is garbled: {_said(error)}")
        return _flaky(CONNECTION_FAILED, f"The connection to the upstream broke: {_said(error)}")


async def _connect(pool: Pool, timeout_s: float, caller: Caller) -> Connection:
    connection = await pool.connect(timeout_s)
    # Opening a connection takes up to seconds. Meanwhile the line may have passed to another worker.
    if not caller.may_send():
        connection.abort()
        raise Withheld
    return connection


async def _answer_to(connection: Connection, answering: asyncio.Future[Reply]) -> Reply:
    try:
        return await answering
    except asyncio.CancelledError:
        connection.give_up(answering)
        raise


def _unnamed_limits(first_byte_timeout_s: float) -> TimeLimits:
    return TimeLimits(TimeLimit(first_byte_timeout_s, "first_byte_timeout_s"), TimeLimit(math.inf, "call_timeout_s"))


def _request_headers(target: Target, api_key: str | None, more: Sequence[tuple[str, str]]) -> str:
    # Compressed answers are read but not asked for: over a local network compression costs more than it saves.
    headers = {"host": target.authority, "user-agent": "wylon"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    headers |= {name.lower(): value for name, value in more}
    for name, value in headers.items():
        if not f"{name}{value}".isprintable():
            what = "API key" if name == "authorization" else f"header {name}"
            raise ValueError(f"The upstream's {what} holds a character that no header can carry.")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {_printable(str(error))}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_MESSAGE_CHARS])


def _limit_met(what: str, limit: TimeLimit) -> Answer:
    """Return a final answer for a call past a time limit: another call would meet the limit again."""
    message = (
        f"{what} for {limit.seconds:g} s, the limit that {limit.setting} sets. Raise it for models that take longer."
    )
    return Answer(Trouble.FINAL, error=(REQUEST_TIMEOUT[0], message))


def _away(code: str, message: str) -> Answer:
    return Answer(Trouble.AWAY, error=(code, message))


def _flaky(code: str, message: str) -> Answer:
    return Answer(Trouble.FLAKY, error=(code, message))
