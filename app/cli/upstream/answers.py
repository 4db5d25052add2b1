"""The bodies of the stand-in's answers, in OpenAI's shapes; the text of an answer echoes the question."""

import base64
import hashlib
import itertools
import struct
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

DEFAULT_MODEL = "wylon-echo"
EMBEDDING_DIMENSIONS = 8
# Roughly the ratio of tokenizers for English.
BYTES_PER_TOKEN = 4

_Request = TypeVar("_Request")
_numbers = itertools.count(1)
_encode = msgspec.json.encode


class RequestInvalid(Exception):
    """The body is not a valid request for the endpoint."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


# gc=False: the structs can't form reference cycles, and thousands are made a second.
class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = msgspec.Raw(b'""')


class _Chat(msgspec.Struct, gc=False):
    messages: list[_Message]
    model: msgspec.Raw = msgspec.Raw(b'"wylon-echo"')


class _Plain(msgspec.Struct, gc=False):
    model: str = DEFAULT_MODEL
    prompt: Any = None
    input: Any = None
    dimensions: int = EMBEDDING_DIMENSIONS
    encoding_format: str = "float"


_chat = msgspec.json.Decoder(_Chat)
_plain = msgspec.json.Decoder(_Plain)
_CHAT_ANSWER = (
    b'{"id":"chatcmpl-%08x","object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":'
    b'{"role":"assistant","content":%b,"refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0}},"system_fingerprint":null}'
)


def answer_chat(body: bytes) -> bytes:
    """Return a chat completion that echoes the last user message."""
    request = _decode(_chat, body, "messages")
    content = b'""'
    for message in reversed(request.messages):
        if message.role == "user":
            content = _as_text(message.content)
            break
    asked, said = len(body) // BYTES_PER_TOKEN, len(content) // BYTES_PER_TOKEN
    return _CHAT_ANSWER % (next(_numbers), time.time(), request.model, content, asked, said, asked + said)


def answer_completion(body: bytes) -> bytes:
    """Return a text completion that echoes the prompt."""
    request = _decode(_plain, body, "prompt")
    text = request.prompt if isinstance(request.prompt, str) else _encode(request.prompt).decode()
    return _encode(
        {
            "id": f"cmpl-{next(_numbers):08x}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": request.model,
            "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}],
            "usage": _usage("prompt_tokens", body, "completion_tokens", text),
        }
    )


def answer_embeddings(body: bytes) -> bytes:
    """Return a small vector per input; equal texts give equal vectors."""
    request = _decode(_plain, body, "input")
    if not 1 <= request.dimensions <= 4096:
        raise RequestInvalid("'dimensions' must be from 1 to 4096.", "dimensions")
    tokens = len(body) // BYTES_PER_TOKEN
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, request)}
        for index, text in enumerate(_inputs(request.input))
    ]
    return _encode(
        {
            "object": "list",
            "data": data,
            "model": request.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def answer_response(body: bytes) -> bytes:
    """Return a response object that echoes the input."""
    request = _decode(_plain, body, "input")
    text = request.input if isinstance(request.input, str) else _encode(request.input).decode()
    number = next(_numbers)
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"type": "message", "id": f"msg_{number:08x}", "status": "completed", "role": "assistant"}
    usage = _usage("input_tokens", body, "output_tokens", text)
    details = {
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return _encode(
        {
            "id": f"resp_{number:08x}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "error": None,
            "model": request.model,
            "output": [message | {"content": content}],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage | details,
        }
    )


def answer_moderation(body: bytes) -> bytes:
    """Return an unflagged result per input."""
    request = _decode(_plain, body, "input")
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0}}
    results = [result for _ in _inputs(request.input)]
    return _encode({"id": f"modr-{next(_numbers):08x}", "model": request.model, "results": results})


def list_models() -> bytes:
    """Return a list with the default model alone, although requests may name any model."""
    model = {"id": DEFAULT_MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "wylon"}
    return _encode({"object": "list", "data": [model]})


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """Return OpenAI's error envelope."""
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


ENDPOINTS: dict[bytes, Callable[[bytes], bytes]] = {
    b"/v1/chat/completions": answer_chat,
    b"/v1/completions": answer_completion,
    b"/v1/embeddings": answer_embeddings,
    b"/v1/responses": answer_response,
    b"/v1/moderations": answer_moderation,
}


def _decode(decoder: "msgspec.json.Decoder[_Request]", body: bytes, needed: str) -> _Request:
    try:
        request = decoder.decode(body)
    except msgspec.ValidationError as fault:
        raise RequestInvalid(f"Invalid request: {fault}.", needed) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestInvalid("The body is not parseable as JSON.") from None
    if isinstance(request, _Plain) and getattr(request, needed) is None:
        raise RequestInvalid(f"Missing required parameter: '{needed}'.", needed)
    return request


def _as_text(content: msgspec.Raw) -> bytes:
    """Return the content as a JSON string: a text unchanged, content parts as quoted JSON."""
    raw = bytes(content)
    return raw if raw.startswith(b'"') else _encode(raw.decode())


def _inputs(value: Any) -> list[Any]:
    """Return the inputs of a request: a list of texts or of token lists is many inputs, any other value is one."""
    is_many = isinstance(value, list) and bool(value) and not isinstance(value[0], int)
    return value if is_many else [value]


def _vector(text: Any, request: _Plain) -> list[float] | str:
    digest = hashlib.shake_256(_encode(text)).digest(2 * request.dimensions)
    values = [(number - 32_768) / 32_768 for number in struct.unpack(f">{request.dimensions}H", digest)]
    if request.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{request.dimensions}f", *values)).decode()
    return values


def _usage(asked_name: str, body: bytes, said_name: str, text: str) -> dict[str, Any]:
    asked, said = len(body) // BYTES_PER_TOKEN, len(text) // BYTES_PER_TOKEN
    return {asked_name: asked, said_name: said, "total_tokens": asked + said}
