"""A decorator that declares a route: the input, the answer and the refusals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from flask_smorest import Blueprint
from marshmallow import Schema

from app.api.auth import public
from app.api.request_body import RequestParser
from app.api.schemas import ErrorSchema

View = TypeVar("View", bound=Callable[..., Any])

IDEMPOTENCY_KEY: Mapping[str, object] = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key and the same request again: the first answer again. With another request: 409.",
}

# Statuses of every route that reads a body.
_OF_BODIES = (408, 503)
_ERRORS = {
    400: "The request has a missing, wrong or unsupported value; `param` names it.",
    401: "The request carries no API key, or one that is not known.",
    404: "There is no such object.",
    408: "The body came too slowly.",
    409: "The object is in a state that does not allow this, or the Idempotency-Key was used for another request.",
    413: "The request is over a limit of size.",
    416: "The file does not have the bytes of this range.",
    503: "Something this needs does not answer right now: try again in a moment.",
    507: "No room is left where files are kept.",
}


class _Blueprint(Blueprint):  # type: ignore[misc]  # flask-smorest ships no types
    ARGUMENTS_PARSER = RequestParser()


@dataclass(frozen=True)
class Takes:
    """The input of a route besides the path."""

    query: type[Schema] | None = None
    json: type[Schema] | None = None
    headers: Sequence[Mapping[str, object]] = ()
    # The description of a body read by the view itself.
    described_body: Mapping[str, object] | None = None


class Routes:
    """The routes of one kind of object."""

    def __init__(self, name: str, description: str) -> None:
        self.blueprint = _Blueprint(name, __name__, description=description)

    def add(
        self,
        method: str,
        path: str,
        *,
        answer: type[Schema] | Mapping[str, object] | None,
        status: int = 200,
        content_type: str | None = None,
        also: Mapping[int, str] = MappingProxyType({}),
        takes: Takes | None = None,
        refuses: Sequence[int] = (),
        is_public: bool = False,
    ) -> Callable[[View], View]:
        """Return the decorator that registers and describes a view.

        Args:
            method: the HTTP method.
            path: the path, with Flask's placeholders.
            answer: the schema that dumps the view's result, unless the view returns a whole response.
            status: the status of a good answer.
            content_type: the type of a good answer other than JSON.
            also: the descriptions of further good answers, by status.
            takes: the arguments of the view: first the query, then the body.
            refuses: the statuses of errors, besides the 401 of a route with a key.
            is_public: whether the route answers without a key.
        """
        takes = takes or Takes()
        blueprint = self.blueprint

        def register(view: View) -> View:
            decorated: Any = view
            takes_body = takes.json is not None or takes.described_body is not None
            own = () if is_public else (401,)
            for code in sorted({*refuses, *own, *(_OF_BODIES if takes_body else ())}):
                decorated = blueprint.alt_response(code, schema=ErrorSchema, description=_ERRORS[code])(decorated)
            for code, description in also.items():
                shape = answer if code == 206 else None
                decorated = blueprint.alt_response(
                    code, schema=shape, content_type=content_type, description=description, success=True
                )(decorated)
            decorated = blueprint.response(status, answer, content_type=content_type)(decorated)
            if takes.json is not None:
                decorated = blueprint.arguments(takes.json)(decorated)
            if takes.query is not None:
                decorated = blueprint.arguments(takes.query, location="query")(decorated)
            decorated = blueprint.doc(**_described(takes, is_public))(decorated)
            if is_public:
                decorated = public(decorated)
            blueprint.route(path, methods=[method])(decorated)
            return view

        return register


def _described(takes: Takes, is_public: bool) -> dict[str, object]:
    described: dict[str, object] = {}
    if takes.headers:
        described["parameters"] = list(takes.headers)
    if takes.described_body is not None:
        described["requestBody"] = takes.described_body
    if is_public:
        described["security"] = []
    return described
