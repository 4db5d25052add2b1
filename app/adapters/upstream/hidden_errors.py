"""Finds errors behind a good status: some proxies and servers answer 200 with an error in place of a result."""

import re
from collections.abc import Mapping

import msgspec

from app.adapters.upstream.json_text import without_surrogates

# A body without this text is not examined further.
_MARK = b'"error'
# The members with the results of chat, embeddings, responses, moderations, rerankers and other endpoints.
_RESULTS = (
    "choices",
    "data",
    "output",
    "results",
    "content",
    "embedding",
    "embeddings",
    "generated_text",
    "output_text",
    "outputs",
    "predictions",
    "response",
    "result",
    "scores",
    "text",
)
_NOTHING = frozenset({b"null", b"[]", b"{}", b'""', b"false"})
# The members that say `"error"` of the whole answer.
_SIGNS = ("object", "type", "status")
# The members with the kind of an error, inside the error or beside the error.
_KINDS = ("code", "status", "status_code", "type", "error_type")
_MAX_KIND_CHARS = 100
_STATUS = re.compile("[45][0-9]{2}")
# The HTTP status equivalent to the kind of an error.
_STATUS_OF_KIND = (
    (429, re.compile("rate.?limit|too.?many|throttl|quota|resource.?exhausted", re.IGNORECASE)),
    (503, re.compile("overload|unavailable|capacity|loading", re.IGNORECASE)),
    (502, re.compile("bad.?gateway|upstream", re.IGNORECASE)),
    (504, re.compile("gateway.?time.?out", re.IGNORECASE)),
    (500, re.compile("internal|server.?error|time.?d?.?out|aborted|api.?error", re.IGNORECASE)),
    (401, re.compile("authenticat|api.?key|unauthori", re.IGNORECASE)),
    (403, re.compile("permission|forbidden", re.IGNORECASE)),
)
_OTHER = 400

_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def status_within(body: bytes) -> int | None:
    """Return the correct status, 400 or above, of an answer; None for an answer with a result or without an error.

    A list of nothing but errors is an error too: Gemini wraps its errors in a list.
    """
    if _MARK not in body:
        return None
    text = without_surrogates(body)
    statuses = [_status_in(_members(each)) for each in _elements(text) or [msgspec.Raw(text)]]
    return None if None in statuses else statuses[0]


def _status_in(members: Mapping[str, msgspec.Raw]) -> int | None:
    error = _error_in(members)
    if error is None or not all(_is_nothing(members.get(name)) for name in _RESULTS):
        return None
    if error[:1] == b"[":
        error = bytes(next(iter(_elements(error)), b""))
    own = _members(error)
    kinds = [kind for place in (own, members) for name in _KINDS if (kind := _kind(place.get(name)))]
    if not own and b" " not in error:
        kinds.append(_kind(error) or "")
    for kind in kinds:
        if _STATUS.fullmatch(kind):
            return int(kind)
    return next((status for status, named in _STATUS_OF_KIND if any(map(named.search, kinds))), _OTHER)


def _error_in(members: Mapping[str, msgspec.Raw]) -> bytes | None:
    """Return the error of an answer; None for an answer that reports no error."""
    error, errors = (bytes(members.get(name, b"null")) for name in ("error", "errors"))
    # A number other than a status may be a measure, such as the mean error.
    is_error = error[:1] in (b"{", b"[", b'"') or error == b"true" or _STATUS.fullmatch(_kind(error) or "") is not None
    # An empty error beside other members says that there is no error.
    if is_error and (not _is_nothing(error) or len(members) == 1):
        return error
    if errors[:1] == b"[" and not _is_nothing(errors):
        return errors
    return b"" if any(bytes(members.get(name, b"")) == b'"error"' for name in _SIGNS) else None


def _is_nothing(text: bytes | msgspec.Raw | None) -> bool:
    return text is None or bytes(text).translate(None, b" \t\r\n") in _NOTHING


def _members(text: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        return _read_members(text)
    except _UNREADABLE:
        return {}


def _elements(text: bytes) -> list[msgspec.Raw]:
    try:
        return _read_elements(text)
    except _UNREADABLE:
        return []


def _kind(text: bytes | None) -> str | None:
    if text is None:
        return None
    try:
        value = msgspec.json.decode(text, type=str | int | None)
    except (msgspec.DecodeError, RecursionError):
        return None
    return str(value)[:_MAX_KIND_CHARS] if value is not None else None
