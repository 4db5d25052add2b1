"""What callers do at the worst moment: cancel, run out of time, delete the input.

Each batch has a name of its own: two of these may come in one round, and lines are told apart by the names.
"""

import time
from collections.abc import Callable

from tests.chaos.faults.registry import fault
from tests.chaos.house import SHORT_WINDOW, SHORT_WINDOW_S
from tests.chaos.lines import make_lines
from tests.chaos.scene import Scene

_CANCELLED = frozenset({"completed", "cancelled"})
_EXPIRED = frozenset({"completed", "expired"})
_LOOK_S = 0.02


@fault("cancel")
def cancel(scene: Scene) -> None:
    batch = scene.largest
    batch.may_end = _CANCELLED
    scene.caller.cancel(batch.id, scene.deadline)


@fault("cancel-at-finish")
def cancel_at_finish(scene: Scene) -> None:
    """The last lines are in flight."""
    batch = scene.submit("finishing", make_lines(scene.rng, f"{scene.name}-finishing", 40))
    batch.may_end = _CANCELLED
    left = scene.rng.randrange(0, 6)
    _await(scene, lambda: batch.is_over or batch.recorded >= len(batch.lines) - left)
    scene.caller.cancel(batch.id, scene.deadline)


@fault("cancel-at-expiry")
def cancel_at_expiry(scene: Scene) -> None:
    born_at = time.monotonic()
    batch = scene.submit("cut-short", make_lines(scene.rng, f"{scene.name}-cut-short", 900), SHORT_WINDOW)
    batch.may_end = _CANCELLED | _EXPIRED
    at = born_at + SHORT_WINDOW_S + scene.rng.uniform(-0.3, 1.2)
    _await(scene, lambda: batch.is_over or time.monotonic() >= at)
    scene.caller.cancel(batch.id, scene.deadline)


@fault("expiry")
def expiry(scene: Scene) -> None:
    batch = scene.submit("expiring", make_lines(scene.rng, f"{scene.name}-expiring", 1_200), SHORT_WINDOW)
    batch.may_end = _EXPIRED
    _await(scene, lambda: batch.is_over)


@fault("expiry-at-finish")
def expiry_at_finish(scene: Scene) -> None:
    """The batch is as large as what gets done in its window, or about so."""
    lines = make_lines(scene.rng, f"{scene.name}-just-in-time", scene.rng.randint(250, 450))
    batch = scene.submit("just-in-time", lines, SHORT_WINDOW)
    batch.may_end = _EXPIRED
    _await(scene, lambda: batch.is_over)


@fault("delete-input")
def delete_input(scene: Scene) -> None:
    scene.caller.delete_file(scene.largest.input_file_id, scene.deadline)


def _await(scene: Scene, look: Callable[[], bool]) -> None:
    while not look() and time.monotonic() < scene.deadline:
        scene.wait(_LOOK_S)
