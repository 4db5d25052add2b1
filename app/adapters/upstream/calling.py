"""How requests reach the servers of an upstream, alike for calls, lists of models and checks."""

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import NotRequired, TypedDict

import msgspec

from app.adapters.upstream.answer_memory import AnswerMemory
from app.adapters.upstream.json_text import without_surrogates
from app.domain.upstream import TimeLimits, UpstreamSpec


class Calling(TypedDict):
    """The arguments of HttpUpstream except the URL."""

    api_key: str | None
    connect_timeout_s: float
    first_byte_timeout_s: float
    limits: "NotRequired[LimitsByModel]"
    query: NotRequired[str]
    headers: NotRequired[Sequence[tuple[str, str]]]
    body: NotRequired[Sequence[tuple[str, bytes]]]
    secrets: NotRequired[Sequence[str]]
    max_answer_bytes: NotRequired[int]
    memory: NotRequired[AnswerMemory]


class _Model(msgspec.Struct):
    model: str | None = None


_read_model = msgspec.json.Decoder(_Model).decode
_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class LimitsByModel:
    """How long calls may take, by the model of the request.

    Args:
        others: the limits for all other models.
        by_model: names or patterns with limits; the first matching pattern holds.
    """

    def __init__(self, others: TimeLimits, by_model: Sequence[tuple[str, TimeLimits]] = ()) -> None:
        self._others = others
        self._by_model = [(re.compile(translate(glob)), limits) for glob, limits in by_model]

    def of(self, body: bytes) -> TimeLimits:
        """Return the limits for a request with this body."""
        if not self._by_model:
            return self._others
        try:
            model = _read_model(without_surrogates(body)).model or ""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._others
        return next((limits for pattern, limits in self._by_model if pattern.match(model)), self._others)


def calling_of(spec: UpstreamSpec) -> Calling:
    """Return how to call the servers of an upstream."""
    return Calling(
        api_key=spec.api_key,
        connect_timeout_s=spec.connect_timeout_s,
        first_byte_timeout_s=spec.first_byte_timeout_s,
        limits=LimitsByModel(spec.time_limits, spec.model_limits),
        query=spec.query,
        headers=spec.headers,
        body=spec.body,
        secrets=spec.secrets,
    )


def with_members(body: bytes, members: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a JSON object with the missing ones of these members added; the object's own bytes stay unchanged."""
    try:
        given = _read_members(without_surrogates(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not an object: the server reports the error.
        return body
    added = b",".join(b"%b:%b" % (msgspec.json.encode(name), value) for name, value in members if name not in given)
    if not added:
        return body
    start = body.index(b"{") + 1
    return body[:start] + added + (b"," if given else b"") + body[start:]
