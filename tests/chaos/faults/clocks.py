"""Processes twice, and processes whose clock is an hour off."""

import signal
import time
from functools import partial

from tests.chaos.faults.registry import FAULTS, Fault, fault
from tests.chaos.scene import Scene

_HOUR_S = 3_600.0
# Both are at work for this long.
_TOGETHER_S = 8.0


def _start(name: str, skew_s: float, scene: Scene) -> None:
    scene.house.start_beside(name, skew_s=skew_s)
    if name.startswith("worker"):
        scene.house.await_worker(name)
    else:
        # They say nothing when they are up; imports take about this long.
        scene.wait(3.0)


def _stay(name: str, scene: Scene) -> None:
    """Let it work beside the others, then end it in order."""
    until = time.monotonic() + _TOGETHER_S
    while time.monotonic() < until and not all(batch.is_over for batch in list(scene.batches)):
        scene.wait(0.1)
    scene.house.keeper.stop(name, signal.SIGTERM)


for _name, _process, _skew_s in (
    ("two-beats", "beat-2", 0.0),
    ("two-controls", "control-2", 0.0),
    ("two-of-files", "files-2", 0.0),
    ("worker-an-hour-ahead", "worker-skewed", _HOUR_S),
    ("worker-an-hour-behind", "worker-skewed", -_HOUR_S),
    ("control-an-hour-ahead", "control-skewed", _HOUR_S),
    ("control-an-hour-behind", "control-skewed", -_HOUR_S),
):
    FAULTS.append(Fault(_name, partial(_stay, _process), prepare=partial(_start, _process, _skew_s), is_pairable=False))


@fault("kill-files-of-two", prepare=partial(_start, "files-2", 0.0), is_pairable=False)
def kill_files_of_two(scene: Scene) -> None:
    """The other one takes over what the killed one held."""
    scene.kill("files")
    _stay("files-2", scene)


@fault("kill-control-of-two", prepare=partial(_start, "control-2", 0.0), is_pairable=False)
def kill_control_of_two(scene: Scene) -> None:
    """The other one takes over what the killed one held."""
    scene.kill("control")
    _stay("control-2", scene)
