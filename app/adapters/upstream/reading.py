"""Turns an HTTP reply into an `Answer`: unpacks and checks the bytes."""

from msgspec import UNSET, DecodeError, Raw, Struct, UnsetType
from msgspec.json import Decoder, encode

from app.adapters.upstream.answer_reader import Reply
from app.adapters.upstream.faults import AnswerGarbled
from app.adapters.upstream.hidden_errors import status_within
from app.adapters.upstream.json_text import in_utf8, without_surrogates
from app.adapters.upstream.retry_after import read_retry_after
from app.adapters.upstream.unpacking import unpack
from app.domain.batch import Usage
from app.domain.ids import new_request_id
from app.domain.result import INVALID_RESPONSE, NO_USAGE, RESPONSE_TOO_LARGE, read_usage
from app.domain.retry import Trouble, trouble_of
from app.services.ports import Answer

# The start of an error page tells the cause; callers see at most these characters of the page.
_MAX_WRAPPED_CHARS = 2_000
_MAX_SHOWN_CHARS = 200
# Longer than any request id in use; the id is repeated in every line of the output.
_MAX_REQUEST_ID_CHARS = 200
_NO_PACKING = frozenset({"", "identity", "chunked"})
# No server packs a body more often, and each coding may make the body a thousand times as long.
_MAX_CODINGS = 3
_STARTS = (b"{", b"[")
# A character takes at most four bytes in UTF-8.
_MAX_CHAR_BYTES = 4


def read_answer(reply: Reply, max_bytes: int) -> Answer:
    """Sort and check a reply; raises AnswerGarbled where the body is not packed as the headers say."""
    status, headers, body, is_whole = reply
    trouble = trouble_of(status)
    if "content-encoding" in headers or "transfer-encoding" in headers:
        body, is_whole = _unpacked(reply, max_bytes)
    if trouble is Trouble.NONE:
        if not is_whole:
            return Answer(Trouble.FINAL, error=(RESPONSE_TOO_LARGE, _too_large(max_bytes)))
        usage = _check(body)
        read = (body, usage) if usage is not None else _read_json(body)
        if read is None:
            return Answer(Trouble.FLAKY, error=(INVALID_RESPONSE, _senseless(reply, body)))
        hidden = status_within(read[0])
        if hidden is None:
            return Answer(trouble, status, _request_id(headers), *read)
        trouble = trouble_of(hidden)
        wait_s = None if trouble is Trouble.FINAL else read_retry_after(headers)
        return Answer(trouble, status, _request_id(headers), read[0], NO_USAGE, wait_s)
    read = _read_json(body) if is_whole else None
    trouble = trouble_of(status, names_fault=read is not None and _names_fault(read[0]))
    body = _wrapped(reply, body) if read is None else read[0]
    retry_after_s = None if trouble is Trouble.FINAL else read_retry_after(headers)
    return Answer(trouble, status, _request_id(headers), body, NO_USAGE, retry_after_s)


def _unpacked(reply: Reply, max_bytes: int) -> tuple[bytes, bool]:
    headers, body, is_whole = reply.headers, reply.body, reply.is_whole
    # In the order in which the server applied the codings. The parser has already joined the chunks.
    given = f"{headers.get('content-encoding', '')},{headers.get('transfer-encoding', '')}".lower().split(",")
    codings = [coding.strip() for coding in given if coding.strip() not in _NO_PACKING]
    if len(codings) > _MAX_CODINGS:
        raise AnswerGarbled(f"the body is packed {len(codings)} times")
    for coding in reversed(codings):
        body, is_whole = unpack(body, coding, max_bytes, is_whole=is_whole)
    return body, is_whole


class _Said(Struct):
    error: Raw | UnsetType = UNSET
    object: Raw | UnsetType = UNSET
    message: Raw | UnsetType = UNSET
    code: Raw | UnsetType = UNSET
    detail: Raw | UnsetType = UNSET


_read_said = Decoder(_Said).decode
# FastAPI's answer for a path without an endpoint.
_NOTHING_HERE = b'"Not Found"'


def _names_fault(body: bytes) -> bool:
    """Return whether the body is the error of a model server, and not of another program at the address."""
    try:
        said = _read_said(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if said.detail is not UNSET:
        return bytes(said.detail) != _NOTHING_HERE
    return any(given is not UNSET for given in (said.error, said.object, said.message, said.code))


def _read_json(body: bytes) -> tuple[bytes, Usage] | None:
    """Return the answer in UTF-8 with its usage; None for JSON that some reader of the output can't read."""
    usage = _check(body)
    if usage is not None:
        return body, usage
    body = in_utf8(body)
    usage = _check(without_surrogates(body))
    return None if usage is None else (body, usage)


def _check(body: bytes) -> Usage | None:
    """Return the usage in an answer; None where the answer is not a JSON object or list.

    Endpoints answer with an object, endpoints beyond OpenAI's perhaps with a list: `null` and the like say nothing.
    """
    if body[:1] != b"{" and not body.lstrip().startswith(_STARTS):
        return None
    try:
        # msgspec does not check skipped strings.
        if not body.isascii():
            body.decode()
        return read_usage(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _request_id(headers: dict[str, str]) -> str:
    given = headers.get("x-request-id")
    return given[:_MAX_REQUEST_ID_CHARS] if given else new_request_id()


def _text(body: bytes, max_chars: int) -> str:
    return body[: max_chars * _MAX_CHAR_BYTES].decode("utf-8", "replace")[:max_chars]


def _wrapped(reply: Reply, body: bytes) -> bytes:
    message = _text(body, _MAX_WRAPPED_CHARS) or _empty_message(reply)
    return encode({"error": {"message": message, "type": "upstream_error", "param": None, "code": None}})


def _empty_message(reply: Reply) -> str:
    target = reply.headers.get("location")
    where = f" that points to {target[:_MAX_WRAPPED_CHARS]}" if target else ""
    return f"The upstream answered {reply.status} with an empty body{where}."


def _senseless(reply: Reply, body: bytes) -> str:
    kind = reply.headers.get("content-type", "none")[:_MAX_SHOWN_CHARS]
    start = "".join(char if char.isprintable() else " " for char in _text(body, _MAX_SHOWN_CHARS))
    return (
        f"The upstream answered {reply.status} with a body that is not a JSON object or list "
        f"({len(body)} bytes, content type {kind}): {start}"
    )


def _too_large(max_bytes: int) -> str:
    return f"The upstream's answer is larger than {max_bytes} bytes, the limit that WYLON_MAX_ANSWER_MIB sets."
