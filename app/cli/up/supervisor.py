"""Keep a set of processes running, and end the processes in order."""

import time
from collections.abc import Callable, Iterable, Sequence

import structlog

from app.cli.up.child import Child, ChildSpec
from app.cli.up.forking import Loader
from app.cli.up.run_folder import RunFolder

# The processes must end within 10 s of the signal. The broker gets little time, since the broker saves no data.
KILL_AFTER_S = 8.5
BROKER_KILL_AFTER_S = 0.8
_LOOK_EVERY_S = 0.05
_SAY_AFTER_S = 2.0

log = structlog.get_logger()


class Supervisor:
    """Starts, restarts and stops processes: the broker starts first and stops last."""

    def __init__(self, specs: Sequence[ChildSpec], folder: RunFolder, loader: Loader | None = None) -> None:
        self.children = [Child(spec, loader) for spec in sorted(specs, key=lambda spec: not spec.is_broker)]
        self._folder = folder
        self._loader = loader

    def tick(self) -> None:
        """Record ended processes, and start the processes that are due."""
        self._look_after(self.children)

    def tick_broker(self) -> None:
        """Tick the broker alone: the other processes need a running broker."""
        self._look_after([child for child in self.children if child.spec.is_broker])

    def _look_after(self, children: Sequence[Child]) -> None:
        for child in children:
            if child.reap():
                self._folder.remove_pid(child.spec.name)
                log.warning("process.ended", process=child.spec.name, exit_code=child.exit_code)
        if self._loader is not None:
            self._loader.look({child.process.pid for child in self.children if child.process is not None})
        for child in children:
            if child.is_due(time.monotonic()):
                pid = child.start()
                self._folder.write_pid(child.spec.name, pid)
                log.info("process.started", process=child.spec.name, pid=pid)

    @property
    def is_whole(self) -> bool:
        """Whether every process runs."""
        return all(child.is_running for child in self.children)

    def failing(self, failures: int) -> Child | None:
        """Return a process that has ended at least `failures` times in a row, or None."""
        return next((child for child in self.children if child.backoff.failures >= failures), None)

    def stop(self, is_impatient: Callable[[float], bool], say: Callable[[str], None] = lambda _: None) -> None:
        """End all processes within 10 s.

        Args:
            is_impatient: waits up to the given seconds; returns True to kill the remaining processes now.
            say: receives the names of the processes still running, every 2 s.
        """
        deadline = time.monotonic() + KILL_AFTER_S
        self._end([child for child in self.children if not child.spec.is_broker], deadline, is_impatient, say)
        broker_deadline = time.monotonic() + BROKER_KILL_AFTER_S
        self._end([child for child in self.children if child.spec.is_broker], broker_deadline, is_impatient, say)

    def _end(
        self,
        children: Iterable[Child],
        deadline: float,
        is_impatient: Callable[[float], bool],
        say: Callable[[str], None],
    ) -> None:
        left = [child for child in children if child.is_running]
        for child in left:
            child.terminate()
        is_late, say_at = False, time.monotonic() + _SAY_AFTER_S
        while left:
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + _SAY_AFTER_S
                say(f"Waiting for {_named(left)} to end: calls in flight are finished, or given back, within seconds.")
            is_late = is_late or time.monotonic() >= deadline
            for child in left:
                if is_late:
                    log.warning("process.killed", process=child.spec.name)
                    child.kill()
                if child.reap():
                    self._folder.remove_pid(child.spec.name)
            left = [child for child in left if child.is_running]
            is_late = bool(left) and is_impatient(_LOOK_EVERY_S)


def _named(children: Iterable[Child]) -> str:
    return ", ".join(child.spec.name for child in children)
