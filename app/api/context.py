"""The context of a view: the services, the caller's key and the request's id."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from flask import Flask, current_app, g

from app.domain.api_key import ApiKey
from app.services.batches import BatchService
from app.services.content_lines import ContentLines
from app.services.files import FileService
from app.services.keys import KeyService
from app.services.ports import ModelCatalog
from app.wiring.readiness import Readiness

_EXTENSION = "wylon"
_READINESS = "wylon-readiness"
_LINES = "wylon-content-lines"


class Services(Protocol):
    """The services that the API needs; wiring builds the object."""

    @property
    def files(self) -> FileService: ...

    @property
    def batches(self) -> BatchService: ...

    @property
    def keys(self) -> KeyService: ...

    @property
    def catalog(self) -> ModelCatalog: ...

    @property
    def endpoints(self) -> Sequence[str]:
        """The endpoints that the lines of a batch may call."""

    @property
    def windows(self) -> Sequence[str]:
        """The completion windows that a batch may have."""

    @property
    def cors_origins(self) -> Sequence[str]:
        """The origins of web pages that may call the API; `*` is every origin."""

    @property
    def readiness(self) -> Mapping[str, Callable[[], None]]:
        """Checks by the name of the checked part; a check raises if the part does not work."""


def attach(app: Flask, services: Services) -> None:
    """Let the app's views find the services."""
    app.extensions[_EXTENSION] = services
    app.extensions[_READINESS] = Readiness()
    app.extensions[_LINES] = ContentLines()


def services() -> Services:
    """Return the services of the current app."""
    return cast(Services, current_app.extensions[_EXTENSION])


def content_lines() -> ContentLines:
    """Return the line counter for files."""
    return cast(ContentLines, current_app.extensions[_LINES])


def readiness() -> Readiness:
    """Return the runner of the app's readiness checks."""
    return cast(Readiness, current_app.extensions[_READINESS])


def tenant_id() -> str:
    """Return the tenant of the request's key."""
    return cast(str, g.api_key.tenant_id)


def api_key_id() -> str:
    """Return the id of the request's key."""
    return cast(str, g.api_key.id)


def set_key(key: ApiKey) -> None:
    """Remember the request's key."""
    g.api_key = key


def begin_request(request_id: str) -> None:
    """Remember the arrival time and the id of the request."""
    g.request_id = request_id
    g.began = time.perf_counter()


def request_id() -> str:
    """Return the id of the request."""
    return cast(str, g.request_id)


def elapsed_ms() -> int:
    """Return the milliseconds since the request's arrival."""
    began: float = g.began
    return round((time.perf_counter() - began) * 1_000)
