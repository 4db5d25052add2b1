"""One line of an input file: the requirements, and the error for each fault."""

from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.domain.errors import LineInvalid
from app.domain.limits import MAX_CUSTOM_ID_CHARS, MAX_JSON_DEPTH, MAX_LINE_BYTES
from app.domain.line_tokens import estimate_tokens
from app.domain.nesting import is_nested_deeper
from app.domain.prefix import prefix_key
from app.domain.surrogates import has_surrogates, hide_surrogates, show_surrogates, without_surrogates

# The field that an endpoint needs beside `model`, with the message known to callers.
_REQUIRED_INPUT = {
    "/v1/chat/completions": ("messages", "Messages parameter is required."),
    "/v1/completions": ("prompt", "Prompt parameter is required."),
    "/v1/embeddings": ("input", "Input parameter is required."),
    "/v1/responses": ("input", "Input parameter is required."),
    "/v1/moderations": ("input", "Input parameter is required."),
}
# The model server has a default model for these endpoints.
_MODEL_OPTIONAL = frozenset({"/v1/moderations"})
# A responses request may instead name a stored prompt or go on from an earlier response.
_INPUT_STANDS_IN = {"/v1/responses": ("prompt", "previous_response_id", "conversation")}

_STREAM_MESSAGE = "Chat Completions: Streaming is not supported in the Batch API."
_MAX_SHOWN_MODEL_CHARS = 200
_EMBEDDINGS = "/v1/embeddings"
# Models of these endpoints read a text whole, and keep nothing of the text for the next call.
_NEVER_ALIKE = frozenset({_EMBEDDINGS, "/v1/moderations"})
# OpenAI's limit over a whole embeddings batch.
MAX_EMBEDDING_INPUTS = 50_000


class _Given(Struct, gc=False):
    """The parts of a body that are passed on as they came."""

    messages: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    system: Raw | UnsetType = UNSET
    instructions: Raw | UnsetType = UNSET
    previous_response_id: Raw | UnsetType = UNSET
    conversation: Raw | UnsetType = UNSET
    max_tokens: Raw | UnsetType = UNSET
    max_completion_tokens: Raw | UnsetType = UNSET
    max_output_tokens: Raw | UnsetType = UNSET


class _Body(_Given, gc=False):
    model: str | UnsetType | None = UNSET
    stream: bool | UnsetType | None = UNSET


class _Line(Struct, gc=False):
    custom_id: str
    method: str
    url: str
    body: _Body


class _AnyBody(_Given, gc=False):
    model: Raw | UnsetType = UNSET
    stream: Raw | UnsetType = UNSET


class _AnyLine(Struct, gc=False):
    """A line with parts of any type."""

    custom_id: Raw | UnsetType = UNSET
    method: Raw | UnsetType = UNSET
    url: Raw | UnsetType = UNSET
    body: Raw | UnsetType = UNSET


class _NamedLine(Struct, gc=False):
    custom_id: Raw


class RequestLine(Struct):
    """A checked line, as a worker reads it: `body` is the bytes to send."""

    custom_id: str
    body: Raw


class CheckedLine(NamedTuple):
    """The facts that validation keeps of a good line."""

    custom_id: str
    model: str | None
    # The number of texts in an embeddings line; 1 for other lines.
    inputs: int = 1
    # Equal in the upper bits for lines with the same beginning.
    prefix_key: int = 0
    # An estimate of the tokens that the line will use.
    tokens: int = 0


_line_decoder = msgspec.json.Decoder(_Line)
_any_line_decoder = msgspec.json.Decoder(_AnyLine)
_any_body_decoder = msgspec.json.Decoder(_AnyBody)
_text_decoder = msgspec.json.Decoder(str)
_grammar_decoder = msgspec.json.Decoder(Raw)
_named_decoder = msgspec.json.Decoder(_NamedLine)
_request_decoder = msgspec.json.Decoder(RequestLine)


def read_request(data: bytes) -> RequestLine:
    """Return custom_id and body of a line that `check_line` accepted; the body is not decoded."""
    try:
        return _request_decoder.decode(data)
    except msgspec.DecodeError:
        line = _any_line_decoder.decode(hide_surrogates(data))
        custom_id = _text_of(line.custom_id, "custom_id", "custom_id")
        return RequestLine(custom_id, Raw(show_surrogates(bytes(_given(line.body, "body")))))


def read_custom_id(data: bytes) -> str | None:
    """Return the custom_id of any line, good or bad; None if the line has no readable custom_id."""
    try:
        line = _named_decoder.decode(hide_surrogates(data) if has_surrogates(data) else data)
        custom_id = _text_of(line.custom_id, "custom_id", "custom_id")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LineInvalid):
        return None
    return custom_id if 0 < len(custom_id) <= MAX_CUSTOM_ID_CHARS else None


def check_line(data: bytes, endpoint: str) -> CheckedLine:
    """Return the facts of a good line; raise LineInvalid with the code, message and param of the first fault."""
    if len(data) > MAX_LINE_BYTES:
        raise too_long()
    # The decoder skips strings that are not returned, and with the strings any bytes that are not UTF-8.
    if not data.isascii():
        _check_utf8(data)
    line = _decode(data)
    if is_nested_deeper(data, MAX_JSON_DEPTH):
        raise _too_deep()
    if len(line.custom_id) > MAX_CUSTOM_ID_CHARS or not line.custom_id:
        raise LineInvalid(
            "invalid_request", f"custom_id must have 1 to {MAX_CUSTOM_ID_CHARS} characters.", param="custom_id"
        )
    if line.method != "POST":
        raise LineInvalid("invalid_request", "The method must be POST.", param="method")
    # Azure's classic form of a url has no /v1.
    if line.url != endpoint and f"/v1{line.url}" != endpoint:
        raise LineInvalid(
            "invalid_url", "The URL provided for this request does not match the batch endpoint.", param="url"
        )
    _check_body(line.body, endpoint)
    inputs = _count_inputs(line.body.input) if endpoint == _EMBEDDINGS else 1
    body = line.body
    tokens = estimate_tokens(len(data), (body.max_completion_tokens, body.max_output_tokens, body.max_tokens))
    return CheckedLine(line.custom_id, line.body.model or None, inputs, _prefix_key(line.body, endpoint), tokens)


def _decode(data: bytes) -> _Line:
    try:
        return _line_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return _decode_by_parts(data)


def _check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as fault:
        raise LineInvalid(
            "invalid_json_line", f"This line is not valid UTF-8 (byte {fault.start + 1} of the line)."
        ) from None


def _too_deep() -> LineInvalid:
    return LineInvalid("invalid_json_line", f"This line is nested deeper than {MAX_JSON_DEPTH} levels.")


def too_long() -> LineInvalid:
    """Return the error for a line over the limit."""
    return LineInvalid("line_too_long", f"This line is longer than {MAX_LINE_BYTES:,} bytes.")


def duplicate() -> LineInvalid:
    """Return the error for a custom_id that an earlier line has."""
    return LineInvalid(
        "duplicate_custom_id",
        "The custom_id for this request is a duplicate of another request. "
        "The custom_id parameter must be unique for each request in a batch.",
        param="custom_id",
    )


def model_not_found(model: str) -> LineInvalid:
    """Return the error for a model that no upstream serves."""
    shown = model if len(model) <= _MAX_SHOWN_MODEL_CHARS else model[:_MAX_SHOWN_MODEL_CHARS] + "…"
    return LineInvalid(
        "model_not_found", f"The provided model '{shown}' is not supported by the Batch API.", param="body.model"
    )


def endpoint_not_found(endpoint: str) -> LineInvalid:
    """Return the error for a line without a model whose endpoint no upstream has."""
    return LineInvalid("model_not_found", f"No model server takes {endpoint}.", param="url")


def _check_body(body: _Body, endpoint: str) -> None:
    if body.stream:
        raise LineInvalid("streaming_unsupported", _STREAM_MESSAGE, param="body.stream")
    if not body.model and endpoint not in _MODEL_OPTIONAL:
        raise LineInvalid("invalid_request", "Model parameter is required.", param="body.model")
    needed = _REQUIRED_INPUT.get(endpoint)
    if needed is None:
        return
    name, message = needed
    if _is_given(getattr(body, name)):
        return
    if not any(_is_given(getattr(body, field)) for field in _INPUT_STANDS_IN.get(endpoint, ())):
        raise LineInvalid("invalid_request", message, param=f"body.{name}")


def _is_given(value: Raw | UnsetType) -> bool:
    return value is not UNSET and bytes(value) != b"null"


def _prefix_key(body: _Body, endpoint: str) -> int:
    """Return the key of the text that the model sees first, without the model's name, as caches are by model."""
    if endpoint in _NEVER_ALIKE:
        return 0
    # In the order of the models' templates.
    fields = (body.tools, body.system, body.instructions, body.prompt, body.messages, body.input)
    given = [field for field in fields if field is not UNSET]
    return prefix_key(given) if given else 0


def _count_inputs(given: Raw | UnsetType) -> int:
    """Return the number of texts in `input` of an embeddings line: strings, or lists of token numbers."""
    value = b"" if given is UNSET else bytes(given)
    if not value.startswith(b"["):
        return 1
    if value[1:].lstrip()[:1] == b'"':
        return value.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') // 2
    return max(1, value.count(b"[") - 1)


def _decode_by_parts(data: bytes) -> _Line:
    """Return a line that the strict decoder refused for its surrogates, or raise the error for the fault.

    No part of the line becomes a Python object before the part is known to be a text: a few megabytes of brackets would
    become a few hundred.
    """
    _check_grammar(data)
    try:
        line = _any_line_decoder.decode(hide_surrogates(data))
    except msgspec.ValidationError:
        raise LineInvalid("invalid_json_line", "This line is not a JSON object.") from None
    custom_id, method, url = (_text_of(getattr(line, name), name, name) for name in ("custom_id", "method", "url"))
    try:
        body = _any_body_decoder.decode(_given(line.body, "body"))
    except msgspec.ValidationError:
        raise LineInvalid("invalid_request", "The parameter 'body' must be an object.", param="body") from None
    model = _text_of(body.model, "model", "body.model") if _is_given(body.model) else None
    stream = b"false" if body.stream is UNSET else bytes(body.stream)
    if stream not in (b"true", b"false", b"null"):
        raise LineInvalid("invalid_request", "The parameter 'stream' must be a boolean.", param="body.stream")
    given = {name: getattr(body, name) for name in _Given.__struct_fields__}
    return _Line(custom_id, method, url, _Body(model=model, stream=stream == b"true", **given))


def _check_grammar(data: bytes) -> None:
    try:
        _grammar_decoder.decode(without_surrogates(data) if has_surrogates(data) else data)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError:
        raise LineInvalid("invalid_json_line", "This line is not parseable as valid JSON.") from None


def _given(value: Raw | UnsetType, name: str) -> Raw:
    if value is UNSET or not _is_given(value):
        raise LineInvalid("missing_required_parameter", f"Missing required parameter: '{name}'.", param=name)
    return value


def _text_of(hidden: Raw | UnsetType, name: str, param: str) -> str:
    """Return a text whose surrogates were hidden; raise LineInvalid if the value is no text."""
    value = show_surrogates(bytes(_given(hidden, name)))
    if not value.startswith(b'"'):
        raise LineInvalid("invalid_request", f"The parameter '{name}' must be a string.", param=param)
    try:
        return _text_decoder.decode(value)
    except msgspec.DecodeError:
        message = f"The parameter '{name}' has half of a surrogate pair, which is no character: send whole characters."
        raise LineInvalid("invalid_request", message, param=param) from None
