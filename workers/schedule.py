"""The ticks that beat sends: how often, and in which queue a kind of tick waits."""

from typing import Any

from app.adapters.queue import FILES_QUEUE, REFILL, TICKS_QUEUE, VALIDATE, queue_of_kind

EXPIRE = "beat.expire"
REPAIR = "beat.repair"
SWEEP = "beat.sweep"
SWEEP_BROKER = "beat.sweep_broker"
SWEEP_BLOBS = "beat.sweep_blobs"

# Short ticks that must be punctual.
_LIGHT_EVERY_S = {
    # A completion window is kept to the second.
    EXPIRE: 1.0,
    # Workers ask for refills as they go; the tick restarts refills after a standstill.
    REFILL: 1.0,
    # A task is lost after two looks in a row: a dead worker's lines run again in 6 s + 2 looks.
    REPAIR: 3.0,
}
# Ticks that delete, and so may take long.
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
# Further queues of a process started with `-Q ticks` or `-Q files`, beside the named queue.
QUEUES_OF_KINDS = {
    TICKS_QUEUE: [queue_of_kind(TICKS_QUEUE, task) for task in _LIGHT_EVERY_S],
    FILES_QUEUE: [queue_of_kind(FILES_QUEUE, task) for task in (VALIDATE, *_SLOW_EVERY_S)],
}
