"""The result of a line, and its line in the output or error file."""

from typing import NamedTuple

import msgspec
from msgspec import Struct

from app.domain.batch import Usage
from app.domain.ids import line_request_id
from app.domain.lifecycle import Status
from app.domain.limits import MAX_TOKENS_PER_CALL

BATCH_CANCELLED = ("batch_cancelled", "The batch was cancelled before this request executed.")
BATCH_EXPIRED = (
    "batch_expired",
    "This request could not be executed before the completion window expired.",
)
# Codes of calls without an HTTP answer that can be shown.
REQUEST_TIMEOUT = ("request_timeout", "The underlying call to the model timed out.")
CONNECTION_FAILED = "connection_failed"
CONNECT_TIMED_OUT = "connect_timed_out"
INVALID_RESPONSE = "invalid_response"
RESPONSE_TOO_LARGE = "response_too_large"
# A line that ended the worker process at every try.
WORKER_LOST = ("worker_lost", "The worker that executed this request was lost each time it was tried.")

NO_USAGE = Usage()


class Met(NamedTuple):
    """The calls for a line without a result: their number, and the outcome of the last call."""

    tries: int
    what: str


class Result(NamedTuple):
    """The result of one line: `payload` is the whole line for the output file (`ok`) or the error file."""

    batch_id: str
    position: int
    ok: bool
    payload: bytes
    usage: Usage
    # The model that the line names.
    model: str | None = None


class _Details(Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Answer(Struct):
    usage: _Usage | None = None


class _OddAnswer(Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")


_decoder = msgspec.json.Decoder(_Answer)
_odd_decoder = msgspec.json.Decoder(_OddAnswer)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any_decoder = msgspec.json.Decoder(msgspec.Raw)
_encode = msgspec.json.Encoder().encode


def read_usage(body: bytes) -> Usage:
    """Return the tokens that an answer reports, by the names of chat or of responses.

    A field without a count is 0 and leaves the other fields as they are.

    Raises:
        msgspec.DecodeError: `body` is not JSON.
    """
    try:
        usage = _decoder.decode(body).usage
    except msgspec.ValidationError:
        return _odd_usage(body)
    if usage is None:
        return NO_USAGE
    read = usage.prompt_tokens_details or usage.input_tokens_details
    written = usage.completion_tokens_details or usage.output_tokens_details
    return Usage(
        _counted(usage.prompt_tokens or usage.input_tokens),
        _counted(read.cached_tokens) if read else 0,
        _counted(usage.completion_tokens or usage.output_tokens),
        _counted(written.reasoning_tokens) if written else 0,
    )


def _odd_usage(body: bytes) -> Usage:
    """Read each field by itself, after a field with a wrong type."""
    try:
        fields = _fields(_odd_decoder.decode(body).usage)
    except msgspec.ValidationError:
        # The body is no object. The decoder gave up amid the body, so this line finds out whether the body is JSON.
        _any_decoder.decode(body)
        return NO_USAGE
    return Usage(
        _count(fields, "prompt_tokens") or _count(fields, "input_tokens"),
        _detail(fields, "prompt_tokens_details", "input_tokens_details", "cached_tokens"),
        _count(fields, "completion_tokens") or _count(fields, "output_tokens"),
        _detail(fields, "completion_tokens_details", "output_tokens_details", "reasoning_tokens"),
    )


def _fields(text: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    if text is None:
        return {}
    try:
        return _fields_decoder.decode(text)
    except msgspec.ValidationError:
        return {}


def _count(fields: dict[str, msgspec.Raw], name: str) -> int:
    try:
        number = msgspec.json.decode(fields[name], type=int | float | None) if name in fields else None
    except msgspec.ValidationError:
        return 0
    # Servers in languages with a single kind of number write 3.0.
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return _counted(number) if isinstance(number, int) else 0


def _detail(fields: dict[str, msgspec.Raw], name: str, other: str, detail: str) -> int:
    return _count(_fields(fields.get(name)), detail) or _count(_fields(fields.get(other)), detail)


def _counted(tokens: int | None) -> int:
    if tokens is None or tokens <= 0:
        return 0
    # No call has this many; a wrong report of an upstream must not overflow a column.
    return tokens if tokens < MAX_TOKENS_PER_CALL else MAX_TOKENS_PER_CALL


def one_line(text: bytes) -> bytes:
    """Return JSON text that no reader of lines, Python's `splitlines` included, cuts in two.

    Between values a line break is white space; other separators stand only inside strings, where the escape is equal.
    """
    if b"\n" in text or b"\r" in text:
        text = text.replace(b"\r", b" ").replace(b"\n", b" ")
    if text.isascii():
        return text
    return (
        text.replace(b"\xc2\x85", b"\\u0085").replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    )


def answered(batch_id: str, position: int, custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """Return the line for an HTTP answer; `body` is JSON and goes in as it came."""
    return b'{"id":"%b","custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}' % (
        line_request_id(batch_id, position).encode(),
        one_line(_encode(custom_id)),
        status,
        one_line(_encode(request_id)),
        one_line(body.strip()),
    )


def unanswered(batch_id: str, position: int, custom_id: str, code: str, message: str) -> bytes:
    """Return the line for a request without an HTTP answer."""
    return b'{"id":"%b","custom_id":%b,"response":null,"error":{"code":%b,"message":%b}}' % (
        line_request_id(batch_id, position).encode(),
        one_line(_encode(custom_id)),
        one_line(_encode(code)),
        one_line(_encode(message)),
    )


def never_ran(ending: Status, met: Met | None = None) -> tuple[str, str]:
    """Return code and message for a line without a result when a batch ends as `ending`."""
    code, message = BATCH_EXPIRED if ending is Status.EXPIRING else BATCH_CANCELLED
    if met is None:
        return code, message
    if not met.tries:
        return code, f"{message} It was never called for: {met.what}"
    times = "once" if met.tries == 1 else f"{met.tries} times"
    return code, f"{message} It was called for {times}; the last call came to: {met.what}"
