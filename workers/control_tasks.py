"""The tasks of the ticks process that other processes send: a few lines over a service."""

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
    """Publish as many lines as the dispatch window has room for."""
    control().dispatch.refill()
    control().ticks.count(ticks.REFILL)


@app.task(name=CLOSE)
def close(batch_id: str) -> None:
    """Send no more lines of a cancelled or expired batch."""
    control().dispatch.close(batch_id)
