"""Processes twice, and processes whose clock is off or is set while they work."""

import signal
import time
import warnings
from functools import partial

from tests.chaos.faults.registry import FAULTS, Fault, fault
from tests.chaos.scene import Scene
from tests.clocks import find_library

_HOUR_S = 3_600.0
# Both are at work for this long.
_TOGETHER_S = 8.0
_SKEWS_S = (_HOUR_S, -_HOUR_S, 60.0, -60.0)


def _start(name: str, skew_s: float | None, scene: Scene) -> None:
    scene.house.start_beside(name, skew_s=skew_s)
    if name.startswith("worker"):
        scene.house.await_worker(name)
    else:
        # They say nothing when they are up; imports take about this long.
        scene.wait(3.0)


def _work(scene: Scene, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not all(batch.is_over for batch in list(scene.batches)):
        scene.wait(0.1)


def _stay(name: str, scene: Scene) -> None:
    """Let it work beside the others, then end it in order."""
    _work(scene, _TOGETHER_S)
    scene.house.keeper.stop(name, signal.SIGTERM)


def _step(name: str, scene: Scene) -> None:
    """Set its clock an hour ahead while it works, and then an hour behind; end it in order."""
    for seconds in (_HOUR_S, -_HOUR_S):
        scene.house.set_clock(name, seconds)
        _work(scene, _TOGETHER_S / 2)
    scene.house.keeper.stop(name, signal.SIGTERM)


def _add(name: str, process: str, skew_s: float | None) -> None:
    prepare = partial(_start, process, skew_s)
    FAULTS.append(Fault(name, partial(_stay, process), prepare=prepare, is_pairable=False))


for _name in ("beat", "control", "files"):
    _add(f"two-of-{_name}", f"{_name}-2", None)

if find_library() is None:
    warnings.warn("No clock of a process can be set: install the package faketime.", stacklevel=1)
else:
    for _name in ("worker", "control", "files", "beat"):
        for _skew_s in _SKEWS_S:
            _add(f"clocks-{_name}-{_skew_s:+.0f}s", f"{_name}-skewed", _skew_s)
        FAULTS.append(
            Fault(
                f"clocks-{_name}-stepped",
                partial(_step, f"{_name}-skewed"),
                prepare=partial(_start, f"{_name}-skewed", 0.0),
                is_pairable=False,
            )
        )


@fault("kill-files-of-two", prepare=partial(_start, "files-2", None), is_pairable=False)
def kill_files_of_two(scene: Scene) -> None:
    """The other one takes over what the killed one held."""
    scene.kill("files")
    _stay("files-2", scene)


@fault("kill-control-of-two", prepare=partial(_start, "control-2", None), is_pairable=False)
def kill_control_of_two(scene: Scene) -> None:
    """The other one takes over what the killed one held."""
    scene.kill("control")
    _stay("control-2", scene)
