"""What beat sends, and how often."""

from typing import Any

EXPIRE = "beat.expire"
REPAIR = "beat.repair"
REFILL = "beat.refill"
SWEEP = "beat.sweep"
SWEEP_BROKER = "beat.sweep_broker"
SWEEP_BLOBS = "beat.sweep_blobs"

_EVERY_S = {
    # A window is held to the second.
    EXPIRE: 1.0,
    # Refills are asked for by the workers as they go; this one starts them again after a standstill.
    REFILL: 1.0,
    # Two looks in a row make a task lost: a dead worker's lines run again in 6 s + 2 looks.
    REPAIR: 3.0,
    SWEEP: 10.0,
    SWEEP_BROKER: 30.0,
    SWEEP_BLOBS: 3_600.0,
}

SCHEDULE: dict[str, dict[str, Any]] = {
    name: {
        "task": name,
        "schedule": seconds,
        # While control is away ticks don't pile up: each is as good as the next.
        "options": {"expires": max(3 * seconds, 5.0), "queue": "control", "ignore_result": True},
    }
    for name, seconds in _EVERY_S.items()
}
