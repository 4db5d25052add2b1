"""The HTTP client that calls model servers: the hot path of a worker, so it does nothing that it can leave out."""

import io

import aiohttp
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, hdrs
from multidict import CIMultiDict
from yarl import URL

from app.adapters.upstream.reading import read_answer
from app.domain.limits import MAX_ANSWER_BYTES, MIB
from app.domain.result import CONNECTION_FAILED, INVALID_RESPONSE, REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.services.ports import Answer

# uvicorn and node close a connection that was idle for 5 s; one taken up before that is not closed under a request.
_KEEPALIVE_S = 4.0
# Above this aiohttp warns unless it gets a stream, which it then sends in pieces.
_MAX_WHOLE_BODY_BYTES = MIB
_MAX_MESSAGE_CHARS = 500
_TIMED_OUT = Answer(Trouble.FLAKY, error=REQUEST_TIMEOUT)


class HttpUpstream:
    """One model server, or a proxy before several. Belongs to the event loop that makes its first call.

    Args:
        base_url: what stands in the place of `/v1` before each endpoint, such as `http://127.0.0.1:8000/v1`.
        api_key: sent as a bearer token where given.
        connect_timeout_s: for name, connection and TLS together.
        first_byte_timeout_s: the longest silence, before the answer begins and amid it.
        max_answer_bytes: the largest body that is taken, decompressed.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        connect_timeout_s: float,
        first_byte_timeout_s: float,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._urls: dict[str, URL] = {}
        self._headers = _request_headers(api_key)
        self._connect_timeout_s = connect_timeout_s
        self._first_byte_timeout_s = first_byte_timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._timeout = self._timeout_of(1.0)
        self._session: ClientSession | None = None

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        if timeout_s <= 0:
            # aiohttp takes 0 as no limit at all.
            return _TIMED_OUT
        timeout = self._timeout
        if timeout.total != timeout_s:
            # Nearly every call has the same limit, and building this costs as much as using it.
            timeout = self._timeout = self._timeout_of(timeout_s)
        # The body of a decoded line is a msgspec.Raw, which is typed as bytes and is none; bytes come back as they are.
        body = bytes(body)
        try:
            response = await (self._session or self._open()).post(
                self._urls.get(endpoint) or self._add_url(endpoint),
                data=body if len(body) <= _MAX_WHOLE_BODY_BYTES else io.BytesIO(body),
                timeout=timeout,
                allow_redirects=False,
            )
            return await read_answer(response, self._max_answer_bytes)
        # A line's outcome must be recorded whatever happens: an exception that nobody foresaw included.
        except Exception as error:
            return self._failed(error)

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> ClientSession:
        self._session = ClientSession(
            # How many lines are in flight is decided elsewhere; a second limit here would only cost.
            connector=TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
            cookie_jar=DummyCookieJar(),
            headers=self._headers,
            skip_auto_headers=(hdrs.ACCEPT_ENCODING, hdrs.ACCEPT, hdrs.USER_AGENT),
        )
        return self._session

    def _add_url(self, endpoint: str) -> URL:
        url = self._urls[endpoint] = URL(self._base_url + endpoint.removeprefix("/v1"))
        return url

    def _timeout_of(self, timeout_s: float) -> ClientTimeout:
        return ClientTimeout(total=timeout_s, connect=self._connect_timeout_s, sock_read=self._first_byte_timeout_s)

    def _failed(self, error: Exception) -> Answer:
        """Sort what was raised in the place of an answer; the order matters, as these derive from each other."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _away(f"No connection to the upstream within {self._connect_timeout_s:g} s.")
        # TLS errors are among these; no line can help any of them.
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
            return _away(f"No connection to the upstream: {_said(error)}")
        if isinstance(error, TimeoutError):
            return _TIMED_OUT
        if isinstance(error, aiohttp.ClientPayloadError):
            return _flaky(INVALID_RESPONSE, f"The upstream's answer was cut off: {_said(error)}")
        if isinstance(error, aiohttp.ClientResponseError):
            return _flaky(INVALID_RESPONSE, f"The upstream's answer is not HTTP: {_said(error)}")
        return _flaky(CONNECTION_FAILED, f"The connection to the upstream broke: {_said(error)}")


def _request_headers(api_key: str | None) -> CIMultiDict[str]:
    # Compressed answers are read but not asked for: over a local network they cost more than they save.
    headers = CIMultiDict({hdrs.CONTENT_TYPE: "application/json", hdrs.USER_AGENT: "wylon"})
    if api_key:
        headers[hdrs.AUTHORIZATION] = f"Bearer {api_key}"
    return headers


def _said(error: Exception) -> str:
    text = "".join(char if char.isprintable() else " " for char in str(error))
    return f"{type(error).__name__}: {text[:_MAX_MESSAGE_CHARS]}"


def _away(message: str) -> Answer:
    return Answer(Trouble.AWAY, error=(CONNECTION_FAILED, message))


def _flaky(code: str, message: str) -> Answer:
    return Answer(Trouble.FLAKY, error=(code, message))
