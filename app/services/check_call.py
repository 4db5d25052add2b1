"""The check call: the smallest request to a model. The answer tells a server at fault from a line at fault."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from app.services.ports import Answer

CHAT = "/v1/chat/completions"
_WORD = "Hi"
# The smallest request to each endpoint, beside the model.
_SMALLEST: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": _WORD}], "max_tokens": 1},
    "/v1/completions": {"prompt": _WORD, "max_tokens": 1},
    "/v1/embeddings": {"input": _WORD},
    # OpenAI takes no less than 16.
    "/v1/responses": {"input": _WORD, "max_output_tokens": 16},
    "/v1/moderations": {"input": _WORD},
}
# The name of the limit at OpenAI's reasoning models, found in their refusals of `max_tokens`.
_OTHER_MAX_TOKENS = "max_completion_tokens"
_BAD_REQUEST = 400
# A server with a long queue may take minutes. A check call that takes longer shows nothing, and must not hold a line.
CHECK_TIMEOUT_S = 120.0


class _Body(msgspec.Struct):
    model: str | None = None


_read_body = msgspec.json.Decoder(_Body).decode


def model_of(body: bytes) -> str:
    """Return the model that the body of a request names; empty if none is named."""
    try:
        return _read_body(body).model or ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def has_check(endpoint: str) -> bool:
    """Return whether there is a check call for the endpoint."""
    return endpoint in _SMALLEST


async def make_check_call(call: Callable[[str, bytes], Awaitable[Answer]], endpoint: str, model: str) -> Answer:
    """Make the check call for a model; `call` posts a body to an endpoint, and `has_check(endpoint)` must hold."""
    body = {"model": model} | _SMALLEST[endpoint]
    answer = await call(endpoint, msgspec.json.encode(body))
    if answer.status == _BAD_REQUEST and _OTHER_MAX_TOKENS.encode() in answer.body and "max_tokens" in body:
        body[_OTHER_MAX_TOKENS] = body.pop("max_tokens")
        answer = await call(endpoint, msgspec.json.encode(body))
    return answer
