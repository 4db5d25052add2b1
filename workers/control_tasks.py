"""The tasks of the control process: a few lines each over a service."""

from functools import cache

from celery.worker import state

from app.adapters.queue import CLOSE, FINALIZE, REFILL, VALIDATE
from app.wiring.control import Control, build_control
from workers.celery_app import app, settings
from workers.validation_turns import ValidationTurns

# Each is a core's work for the seconds that a large file takes. More at once would end no sooner, and would take
# from refills, cancels and expiry, which have the other threads, their part of the processor.
_VALIDATIONS_AT_ONCE = 4


@cache
def control() -> Control:
    """Return this process's services, built when the first task needs them."""
    return build_control(settings, app)


def _validate(batch_id: str) -> None:
    if control().validation.validate(batch_id):
        control().dispatch.refill()


_turns = ValidationTurns(_validate, _VALIDATIONS_AT_ONCE, is_ending=lambda: state.should_stop is not None)


@app.task(name=VALIDATE)
def validate(batch_id: str) -> None:
    """Check a batch's input and let it run, at once or when others are done."""
    _turns.take(batch_id)


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
