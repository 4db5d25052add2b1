"""Finds errors behind a good status: some proxies and servers answer 200 with an error in place of a result."""

import re

import msgspec

from app.adapters.upstream.json_text import without_surrogates

# A body without this text is not examined further.
_MARK = b'"error"'
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
    "scores",
    "text",
)
_NOTHING = frozenset({b"null", b"[]", b"{}", b'""', b"false"})
# The members with the kind of an error, inside the error or beside the error.
_KINDS = ("code", "status", "status_code", "type", "error_type")
_MAX_KIND_CHARS = 100
_LOWEST_STATUS, _HIGHEST_STATUS = 400, 599
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


def status_within(body: bytes) -> int | None:
    """Return the correct status, 400 or above, of an answer; None for an answer with a result or without an error."""
    if _MARK not in body:
        return None
    members = _members(without_surrogates(body))
    error = bytes(members.get("error", b"null"))
    if bytes(members.get("object", b"")) == _MARK and error in _NOTHING:
        error = b"true"
    is_error = error[:1] in (b"{", b'"') or error == b"true"
    if not is_error or error in _NOTHING:
        return None
    if any(bytes(members.get(name, b"null")).translate(None, b" \t\r\n") not in _NOTHING for name in _RESULTS):
        return None
    own = _members(error)
    if error[:1] == b"{" and not own:
        return None
    kinds = [kind for place in (own, members) for name in _KINDS if (kind := _kind(place.get(name)))]
    if error[:1] == b'"' and b" " not in error:
        kinds.append(_kind(error) or "")
    for kind in kinds:
        if kind.isdecimal() and _LOWEST_STATUS <= int(kind) <= _HIGHEST_STATUS:
            return int(kind)
    return next((status for status, named in _STATUS_OF_KIND if any(map(named.search, kinds))), _OTHER)


def _members(text: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _read_members(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _kind(text: bytes | None) -> str | None:
    if text is None:
        return None
    try:
        value = msgspec.json.decode(text, type=str | int | None)
    except (msgspec.DecodeError, RecursionError):
        return None
    return str(value)[:_MAX_KIND_CHARS] if value is not None else None
