"""The ticks: what beat sends, how often, and in which queue each kind of tick waits."""

from typing import Any

from app.adapters.queue import FILES_QUEUE, REFILL, TICKS_QUEUE, queue_of_kind

EXPIRE = "beat.expire"
REPAIR = "beat.repair"
SWEEP = "beat.sweep"
SWEEP_BROKER = "beat.sweep_broker"
SWEEP_BLOBS = "beat.sweep_blobs"

# Ticks that have to be punctual, and are short.
_LIGHT_EVERY_S = {
    # A window is held to the second.
    EXPIRE: 1.0,
    # Workers ask for refills as they go; this tick starts refills again after a standstill.
    REFILL: 1.0,
    # Two looks in a row make a task lost: a dead worker's lines run again in 6 s + 2 looks.
    REPAIR: 3.0,
}
# Ticks that may take long, as they delete.
_SLOW_EVERY_S = {
    SWEEP: 10.0,
    SWEEP_BROKER: 30.0,
    SWEEP_BLOBS: 3_600.0,
}


def _entry(task: str, seconds: float, group: str) -> dict[str, Any]:
    return {"task": task, "schedule": seconds, "options": {"queue": queue_of_kind(group, task)}}


SCHEDULE: dict[str, dict[str, Any]] = {
    **{task: _entry(task, seconds, TICKS_QUEUE) for task, seconds in _LIGHT_EVERY_S.items()},
    **{task: _entry(task, seconds, FILES_QUEUE) for task, seconds in _SLOW_EVERY_S.items()},
}
# The queues beside the named one from which a process started with `-Q ticks` or `-Q files` takes messages.
QUEUES_OF_KINDS = {
    TICKS_QUEUE: [queue_of_kind(TICKS_QUEUE, task) for task in _LIGHT_EVERY_S],
    FILES_QUEUE: [queue_of_kind(FILES_QUEUE, task) for task in _SLOW_EVERY_S],
}
