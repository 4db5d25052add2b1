"""Read a request strictly: the JSON body, the query, and the error for an invalid value."""

from collections.abc import Mapping
from typing import Any, NoReturn

import flask
import marshmallow as ma
import msgspec
from webargs.flaskparser import FlaskParser

from app.domain.errors import InvalidRequest

# Marshmallow's messages for two faults with different words in OpenAI's API.
_MISSING = "Missing data for required field."
_NULL = "Field may not be null."
_TYPE_FAULTS = ("Not a valid ", "Invalid input type.", _NULL)


class RequestParser(FlaskParser):
    """Reads a request by a schema, and refuses like OpenAI: 400, with the parameter's name."""

    DEFAULT_VALIDATION_STATUS = 400

    def _raw_load_json(self, req: flask.Request) -> Any:
        return read_json(req)

    def handle_error(self, error: ma.ValidationError, *_args: object, **_kwargs: object) -> NoReturn:
        # The outermost name is the place of the value: json, query, …
        (messages,) = error.messages_dict.values() or ({},)
        raise refusal(messages) from None


def read_json(req: flask.Request) -> dict[str, Any]:
    """Return the JSON object in the body; InvalidRequest if the body is not a JSON object."""
    body = req.get_data(cache=False)
    if req.mimetype and not req.is_json:
        raise InvalidRequest(
            f"The Content-Type of this request is '{req.mimetype[:100]}': send JSON as 'application/json'.",
            code="unsupported_content_type",
        )
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(
            "We could not parse the JSON body of your request: send one JSON object, in UTF-8.", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The JSON body of this request must be an object.", code="invalid_type")
    return value


def load(schema: ma.Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check values against a schema; InvalidRequest names the first invalid value."""
    try:
        loaded: dict[str, Any] = schema.load(values)
    except ma.ValidationError as error:
        raise refusal(error.messages_dict) from None
    return loaded


def refusal(messages: Mapping[Any, Any] | list[str]) -> InvalidRequest:
    """Return the error for the first of Marshmallow's messages, which are nested like the values."""
    path: list[str] = []
    while isinstance(messages, Mapping):
        name, messages = next(iter(messages.items()))
        # Faults of an object as a whole have the name `_schema`.
        if name != "_schema":
            path.append(str(name))
    param, reason = ".".join(path), messages[0]
    if reason == _MISSING:
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    code = "invalid_type" if reason.startswith(_TYPE_FAULTS) else "invalid_value"
    return InvalidRequest(f"Invalid value for '{param}': {reason}", param=param, code=code)
