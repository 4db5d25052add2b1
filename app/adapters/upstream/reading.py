"""What an HTTP answer says: its bytes, bounded and checked, as an `Answer`."""

from aiohttp import ClientResponse, hdrs
from msgspec import DecodeError
from msgspec.json import encode

from app.adapters.upstream.retry_after import read_retry_after
from app.domain.batch import Usage
from app.domain.ids import new_request_id
from app.domain.result import INVALID_RESPONSE, NO_USAGE, RESPONSE_TOO_LARGE, read_usage
from app.domain.retry import Trouble, trouble_of
from app.services.ports import Answer

# An error page's start says what it is; callers see this much of it.
_MAX_WRAPPED_CHARS = 2_000
_MAX_SHOWN_CHARS = 200
# Longer than any request id in use; it is repeated in every line of the output.
_MAX_REQUEST_ID_CHARS = 200
# A character of UTF-8 is at most four bytes.
_MAX_CHAR_BYTES = 4
# Of what is too large no second copy is made: its start is in the first few reads.
_START_PIECES = 4


async def read_answer(response: ClientResponse, max_bytes: int) -> Answer:
    """Read the rest of the response; raises what aiohttp raises where that breaks off."""
    status = response.status
    trouble = trouble_of(status)
    is_good = trouble is Trouble.NONE
    body, is_whole = await _read_body(response, max_bytes, is_good)
    if is_good:
        if not is_whole:
            return Answer(Trouble.FINAL, error=(RESPONSE_TOO_LARGE, _too_large(max_bytes)))
        usage = _check_json(body)
        if usage is None:
            return Answer(Trouble.FLAKY, error=(INVALID_RESPONSE, _not_json(response, body)))
        return Answer(trouble, status, _request_id(response), body, usage)
    if not is_whole or _check_json(body) is None:
        body = _wrapped(response, body)
    retry_after_s = None if trouble is Trouble.FINAL else read_retry_after(response.headers)
    return Answer(trouble, status, _request_id(response), body, NO_USAGE, retry_after_s)


async def _read_body(response: ClientResponse, max_bytes: int, is_good: bool) -> tuple[bytes, bool]:
    """Return the bytes and whether they are all; what is too large comes back cut, its connection closed."""
    length = response.content_length
    if length is not None and length <= max_bytes and hdrs.CONTENT_ENCODING not in response.headers:
        return await response.read(), True
    if length is not None and length > max_bytes:
        # Nothing of a good answer this large is used; of an error its start is shown.
        max_bytes = 0 if is_good else _MAX_WRAPPED_CHARS * _MAX_CHAR_BYTES
    return await _read_up_to(response, max_bytes)


async def _read_up_to(response: ClientResponse, max_bytes: int) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    room = max_bytes
    try:
        while room >= 0 and (piece := await response.content.readany()):
            pieces.append(piece[:room])
            room -= len(piece)
    finally:
        # A no-op once the end was read, since the connection went back to the pool then.
        response.close()
    is_whole = room >= 0
    return b"".join(pieces if is_whole else pieces[:_START_PIECES]), is_whole


def _check_json(body: bytes) -> Usage | None:
    """Return the usage in a JSON text, None where it is none that every reader of the output can read."""
    try:
        # msgspec does not look inside the strings that it skips.
        if not body.isascii():
            body.decode()
        return read_usage(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _request_id(response: ClientResponse) -> str:
    given = response.headers.get("x-request-id")
    return _encodable(given[:_MAX_REQUEST_ID_CHARS]) if given else new_request_id()


def _encodable(header: str) -> str:
    """Return a header's text without the surrogates that stand for bytes which were no UTF-8."""
    return header if header.isascii() else header.encode("utf-8", "replace").decode()


def _text(body: bytes, max_chars: int) -> str:
    return body[: max_chars * _MAX_CHAR_BYTES].decode("utf-8", "replace")[:max_chars]


def _wrapped(response: ClientResponse, body: bytes) -> bytes:
    message = _text(body, _MAX_WRAPPED_CHARS) or _empty_message(response)
    return encode({"error": {"message": message, "type": "upstream_error", "param": None, "code": None}})


def _empty_message(response: ClientResponse) -> str:
    target = response.headers.get("location")
    where = f" that points to {_encodable(target[:_MAX_WRAPPED_CHARS])}" if target else ""
    return f"The upstream answered {response.status} with an empty body{where}."


def _not_json(response: ClientResponse, body: bytes) -> str:
    kind = _encodable(response.headers.get("content-type", "none")[:_MAX_SHOWN_CHARS])
    start = "".join(char if char.isprintable() else " " for char in _text(body, _MAX_SHOWN_CHARS))
    return (
        f"The upstream answered {response.status} with a body that is not JSON "
        f"({len(body)} bytes, content type {kind}): {start}"
    )


def _too_large(max_bytes: int) -> str:
    return f"The upstream's answer is larger than {max_bytes} bytes."
