"""The broker emptied, killed, replaced or out of reach."""

import signal
import time

from tests.chaos.faults.registry import Recovery, fault
from tests.chaos.house import POSTGRESQL
from tests.chaos.scene import Scene
from tests.chaos.wires import Wire

_ON_POSTGRESQL = frozenset({POSTGRESQL})
# Until a worker that can be reached again has said what it holds.
_WAKING_S = 0.5


@fault("kill-broker", recovery=Recovery.PROGRESS)
def kill_broker(scene: Scene) -> None:
    """It comes back empty."""
    scene.kill("broker")


@fault("flushall", recovery=Recovery.PROGRESS)
def flush_all(scene: Scene) -> None:
    scene.house.redis().flushall()


@fault("flushall-thrice", recovery=Recovery.PROGRESS)
def flush_all_thrice(scene: Scene) -> None:
    for _ in range(3):
        scene.house.redis().flushall()
        scene.wait(scene.rng.uniform(0.3, 1.5))


@fault("replace-broker", recovery=Recovery.PROGRESS, databases=_ON_POSTGRESQL)
def replace_broker(scene: Scene) -> None:
    """Another, empty server at the same address after some seconds without any."""
    scene.house.keeper.stop("broker", signal.SIGTERM)
    scene.wait(scene.rng.uniform(1.0, 5.0))
    scene.house.keeper.resume("broker")


@fault("cut-broker-from-worker")
def cut_broker_from_worker(scene: Scene) -> None:
    _cut_worker(scene, is_reset=True)


@fault("silence-broker-from-worker")
def silence_broker_from_worker(scene: Scene) -> None:
    _cut_worker(scene, is_reset=False)


@fault("cut-broker-from-all", recovery=Recovery.PROGRESS, databases=_ON_POSTGRESQL)
def cut_broker_from_all(scene: Scene) -> None:
    _cut(scene, scene.house.house_broker, is_reset=True)


@fault("silence-broker-from-all", recovery=Recovery.PROGRESS, databases=_ON_POSTGRESQL)
def silence_broker_from_all(scene: Scene) -> None:
    _cut(scene, scene.house.house_broker, is_reset=False)


@fault("break-broker-connections")
def break_broker_connections(scene: Scene) -> None:
    """Every connection breaks while the broker and all processes stay up: nothing may be called again for it."""
    for _ in range(3):
        scene.house.redis().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        scene.wait(scene.rng.uniform(0.3, 1.5))


def _cut_worker(scene: Scene, *, is_reset: bool) -> None:
    """A worker that is not heard of counts as dead though it works: its calls since then may be made again."""
    since = time.monotonic()
    _cut(scene, scene.house.worker_broker, is_reset=is_reset)
    scene.hit_workers(since, time.monotonic() + _WAKING_S, only=scene.extra_worker)


def _cut(scene: Scene, wire: Wire, *, is_reset: bool) -> None:
    if is_reset:
        wire.cut()
    else:
        wire.hold()
    try:
        scene.wait(scene.cut_s)
    finally:
        wire.heal()
