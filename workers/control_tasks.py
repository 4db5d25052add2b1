"""The tasks of the process of ticks that are asked for: a few lines each over a service."""

from functools import cache

from app.adapters.queue import CLOSE, REFILL
from app.services import ticks
from app.wiring.control import Control, build_control
from workers.celery_app import app, settings


@cache
def control() -> Control:
    """Return this process's services, built when the first task needs them."""
    return build_control(settings, app)


@app.task(name=REFILL)
def refill() -> None:
    """Publish what the window has room for."""
    control().dispatch.refill()
    control().ticks.count(ticks.REFILL)


@app.task(name=CLOSE)
def close(batch_id: str) -> None:
    """Send nothing more of a batch that was cancelled or has expired."""
    control().dispatch.close(batch_id)
