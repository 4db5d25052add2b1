"""The ticks of beat: upkeep, idempotent throughout."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from app.domain.errors import Unavailable
from app.services import ticks
from workers import schedule
from workers.celery_app import app
from workers.control_tasks import control

log = structlog.get_logger()


@app.task(name=schedule.EXPIRE)
def expire() -> None:
    """End the batches whose completion window has elapsed."""
    with _put_off(schedule.EXPIRE):
        control().upkeep.expire()
        control().ticks.count(ticks.EXPIRE)


@app.task(name=schedule.REPAIR)
def repair() -> None:
    """Send lost tasks again."""
    with _put_off(schedule.REPAIR):
        control().upkeep.repair()
        control().ticks.count(ticks.REPAIR)


@app.task(name=schedule.SWEEP)
def sweep() -> None:
    """Delete files and results that nobody will ask for again."""
    with _put_off(schedule.SWEEP):
        control().upkeep.sweep()


@app.task(name=schedule.SWEEP_BROKER)
def sweep_broker() -> None:
    """Delete the leftovers of dead processes and late messages in the broker."""
    with _put_off(schedule.SWEEP_BROKER):
        control().upkeep.sweep_broker()


@app.task(name=schedule.SWEEP_BLOBS)
def sweep_blobs() -> None:
    """Delete blobs that a crash left without an owner."""
    with _put_off(schedule.SWEEP_BLOBS):
        control().upkeep.sweep_blobs()


@contextmanager
def _put_off(tick: str) -> Iterator[None]:
    """Leave the work to the next tick if the database or the storage is away."""
    try:
        yield
    except Unavailable as fault:
        log.warning("tick.put_off", tick=tick, error=str(fault))
