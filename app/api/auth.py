"""API keys: every route asks for a key, unless marked as public."""

from collections.abc import Callable
from typing import TypeVar

from flask import Flask, current_app, request
from werkzeug.datastructures import Headers

from app.api.context import services, set_key

View = TypeVar("View", bound=Callable[..., object])

_MARK = "is_public"
# Azure's clients send `api-key`, Anthropic's clients `x-api-key`.
_KEY_HEADERS = ("api-key", "x-api-key")
# flask-smorest's view of the OpenAPI document, which holds no more than the documentation.
_PUBLIC_ENDPOINTS = frozenset({"api-docs.openapi_json"})


def public(view: View) -> View:
    """Mark a view as answering without a key."""
    setattr(view, _MARK, True)
    return view


def is_public(app: Flask, endpoint: str) -> bool:
    """Return whether the endpoint answers without a key."""
    return endpoint in _PUBLIC_ENDPOINTS or getattr(app.view_functions[endpoint], _MARK, False)


def require_key() -> None:
    """Find the request's key; NotAuthorized if no tenant has the key. An unknown URL stays a 404."""
    if request.endpoint is None or is_public(current_app, request.endpoint):
        return
    set_key(services().keys.identify(given_key(request.headers)))


def given_key(headers: Headers) -> str | None:
    """Return the API key in the headers of a request, or None."""
    scheme, _, bearer = headers.get("Authorization", "").partition(" ")
    keys = (bearer if scheme.lower() == "bearer" else "", *(headers.get(name, "") for name in _KEY_HEADERS))
    return next((key.strip() for key in keys if key.strip()), None)
