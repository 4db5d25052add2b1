"""The tasks of the control process: a few lines each over a service."""

from functools import cache

from app.adapters.queue import CLOSE, FINALIZE, REFILL, VALIDATE
from app.wiring.control import Control, build_control
from workers.celery_app import app, settings


@cache
def control() -> Control:
    """Return this process's services, built when the first task needs them."""
    return build_control(settings, app)


@app.task(name=VALIDATE)
def validate(batch_id: str) -> None:
    """Check a batch's input and let it run."""
    if control().validation.validate(batch_id):
        control().dispatch.refill()


@app.task(name=REFILL)
def refill() -> None:
    """Publish what the window has room for."""
    control().dispatch.refill()


@app.task(name=CLOSE)
def close(batch_id: str) -> None:
    """Send nothing more of a batch that was cancelled or has expired."""
    control().dispatch.close(batch_id)


@app.task(name=FINALIZE)
def finalize(batch_id: str) -> None:
    """Write the files of a batch whose lines have all returned: the callback of its chord."""
    control().finalization.finalize(batch_id)
