"""The ticks of beat: upkeep, idempotent throughout."""

from app.services import ticks
from workers import schedule
from workers.celery_app import app
from workers.control_tasks import control


@app.task(name=schedule.EXPIRE)
def expire() -> None:
    """End the batches whose completion window has elapsed."""
    control().upkeep.expire()
    control().ticks.count(ticks.EXPIRE)


@app.task(name=schedule.REPAIR)
def repair() -> None:
    """Send lost tasks again."""
    control().upkeep.repair()
    control().ticks.count(ticks.REPAIR)


@app.task(name=schedule.SWEEP)
def sweep() -> None:
    """Delete files and results that nobody will ask for again."""
    control().upkeep.sweep()


@app.task(name=schedule.SWEEP_BROKER)
def sweep_broker() -> None:
    """Delete the leftovers of dead processes and late messages in the broker."""
    control().upkeep.sweep_broker()


@app.task(name=schedule.SWEEP_BLOBS)
def sweep_blobs() -> None:
    """Delete blobs that a crash left without an owner."""
    control().upkeep.sweep_blobs()
