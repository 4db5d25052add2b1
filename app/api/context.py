"""What a view finds around its request: the services, the tenant, the request's id."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from flask import Flask, current_app, g

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
    """What the API needs; wiring builds it."""

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
        """What the lines of a batch may ask for."""

    @property
    def windows(self) -> Sequence[str]:
        """The completion windows that a batch may have."""

    @property
    def cors_origins(self) -> Sequence[str]:
        """The origins of web pages that may call the API; `*` is every one."""

    @property
    def readiness(self) -> Mapping[str, Callable[[], None]]:
        """Checks by the name of what they check; one that raises says that it does not work."""


def attach(app: Flask, services: Services) -> None:
    """Let the app's views find the services."""
    app.extensions[_EXTENSION] = services
    app.extensions[_READINESS] = Readiness()
    app.extensions[_LINES] = ContentLines()


def services() -> Services:
    """Return the services of the app that serves this request."""
    return cast(Services, current_app.extensions[_EXTENSION])


def content_lines() -> ContentLines:
    """Return what counts the lines of files."""
    return cast(ContentLines, current_app.extensions[_LINES])


def readiness() -> Readiness:
    """Return what runs the app's checks."""
    return cast(Readiness, current_app.extensions[_READINESS])


def tenant_id() -> str:
    """Return the tenant whose key the request carries."""
    return cast(str, g.tenant_id)


def set_tenant(tenant: str) -> None:
    """Remember the tenant whose key the request carries."""
    g.tenant_id = tenant


def begin_request(request_id: str) -> None:
    """Remember when the request came, and the id it is known by."""
    g.request_id = request_id
    g.began = time.perf_counter()


def request_id() -> str:
    """Return the id this request is known by."""
    return cast(str, g.request_id)


def elapsed_ms() -> int:
    """Return how long the request has been worked on."""
    began: float = g.began
    return round((time.perf_counter() - began) * 1_000)
