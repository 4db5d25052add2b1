"""Processes that are killed, ended or stopped for a while."""

import os
import signal
import time
from functools import partial

from app.domain import result
from tests.chaos import processes
from tests.chaos.faults.registry import FAULTS, Fault, Recovery, fault
from tests.chaos.model_server import POISON
from tests.chaos.scene import Scene

# A worker that is woken starts nothing that it held: what it is about to send goes out at once.
_WAKING_S = 0.5
# Until a drain is over, and the process that comes after it has started.
_BACK_WITHIN_S = 30.0


@fault("kill-worker", recovery=Recovery.LINES)
def kill_worker(scene: Scene) -> None:
    name, _pid = scene.pick_worker()
    scene.kill(name)


@fault("kill-two-workers", recovery=Recovery.LINES)
def kill_two_workers(scene: Scene) -> None:
    first, _pid = scene.pick_worker()
    second = scene.rng.choice(sorted(set(scene.house.workers()) - {first}))
    scene.kill(first, is_awaited=False)
    scene.kill(second)


@fault("kill-worker-twice", recovery=Recovery.LINES)
def kill_worker_twice(scene: Scene) -> None:
    name, _pid = scene.pick_worker()
    scene.kill(name)
    scene.wait(scene.rng.uniform(0.5, 5.0))
    scene.kill(name)


@fault("kill-control")
def kill_control(scene: Scene) -> None:
    scene.kill("control")


@fault("kill-files")
def kill_files(scene: Scene) -> None:
    scene.kill("files")


@fault("kill-beat")
def kill_beat(scene: Scene) -> None:
    scene.kill("beat")


@fault("kill-web")
def kill_web(scene: Scene) -> None:
    scene.kill("web")


@fault("kill-everything", is_pairable=False)
def kill_everything(scene: Scene) -> None:
    """As a power cut: all at once, the supervisor first so that it starts nothing again."""
    pids = scene.house.pids()
    names = [name for name in pids if name not in ("up", "postgres")]
    for name in ("up", *names):
        at = processes.kill(pids[name])
        if name.startswith("worker-"):
            scene.hit(pids[name], at, at)
    scene.has_crumbs = True
    scene.house.await_back("up", pids["up"])
    scene.house.await_up()


def _terminate(name: str | None, scene: Scene) -> None:
    if name is None:
        name, _pid = scene.pick_worker()
    pid = scene.pid_of(name)
    os.kill(pid, signal.SIGTERM)
    scene.house.await_back(name, pid, _BACK_WITHIN_S)


def _stall(name: str | None, scene: Scene) -> None:
    if name is None:
        name, _pid = scene.pick_worker()
    pid = scene.pid_of(name)
    since = time.monotonic()
    processes.freeze(pid)
    try:
        scene.wait(scene.stall_s)
    finally:
        processes.thaw(pid)
    if name.startswith("worker-"):
        scene.hit(pid, since, time.monotonic() + _WAKING_S)


for _what in ("worker", "control", "files", "beat", "web", "broker"):
    _name = None if _what == "worker" else _what
    _recovery = Recovery.PROGRESS if _what == "broker" else Recovery.RESULT
    FAULTS.append(Fault(f"term-{_what}", partial(_terminate, _name), recovery=_recovery))
    FAULTS.append(Fault(f"stall-{_what}", partial(_stall, _name), recovery=_recovery))


# Until the product knows what became of such a line, its batch runs until its deadline.
@fault(POISON, is_pairable=False, is_asked_for=not hasattr(result, "WORKER_LOST"))
def poison(scene: Scene) -> None:
    """One line of the largest batch kills each process that sends it; it was put there when the lines were made."""
    markers = {line.marker for batch in scene.batches for line in batch.lines if line.kind == POISON}
    while time.monotonic() < scene.deadline and not all(batch.is_over for batch in list(scene.batches)):
        scene.wait(0.5)
    calls = scene.house.model.ledger.by_marker()
    scene.notes.append(f"the line was called {sum(len(calls.get(marker, [])) for marker in markers)} times")
