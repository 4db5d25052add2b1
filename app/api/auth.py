"""Bearer keys: every route asks for one, unless it is marked as public."""

from collections.abc import Callable
from typing import TypeVar

from flask import Flask, current_app, request

from app.api.context import services, set_tenant

View = TypeVar("View", bound=Callable[..., object])

_MARK = "is_public"
# flask-smorest's own view: the description of the API tells nothing that the documentation does not.
_PUBLIC_ENDPOINTS = frozenset({"api-docs.openapi_json"})


def public(view: View) -> View:
    """Mark a view that answers without a key."""
    setattr(view, _MARK, True)
    return view


def is_public(app: Flask, endpoint: str) -> bool:
    """Return whether the endpoint answers without a key."""
    return endpoint in _PUBLIC_ENDPOINTS or getattr(app.view_functions[endpoint], _MARK, False)


def require_key() -> None:
    """Find out whose request this is; NotAuthorized where nobody's. An unknown URL is left to be a 404."""
    if request.endpoint is None or is_public(current_app, request.endpoint):
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    set_tenant(services().keys.tenant_of(key.strip() if scheme.lower() == "bearer" else None))
