"""/healthz and /readyz, for monitors of the process."""

import structlog
from flask import Response

from app.api import errors
from app.api.context import readiness, services
from app.api.routes import Routes
from app.api.schemas import HealthSchema

log = structlog.get_logger()

routes = Routes("health", "Whether this process works.")


@routes.add("GET", "/healthz", answer=HealthSchema, is_public=True)
def is_alive() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@routes.add("GET", "/readyz", answer=HealthSchema, refuses=[503], is_public=True)
def is_ready() -> dict[str, str] | Response:
    """Say whether everything this process needs answers."""
    failing = readiness().failing(services().readiness)
    for name, reason in failing.items():
        log.warning("readiness.failed", check=name, error=reason)
    if not failing:
        return {"status": "ok"}
    # Only the names: the route is public, and the log has the reasons.
    return errors.answer(503, f"Not ready: {', '.join(failing)} does not work.", code="not_ready")
