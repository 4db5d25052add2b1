"""Keeps the harness's own processes running: what ends is started again, unless a fault wants it away."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from app.cli.up.child import Child, ChildSpec
from tests.integration.processes import until

_LOOK_EVERY_S = 0.05
_END_WITHIN_S = 15.0


class Keeper:
    """A thread that starts processes and starts them again.

    All are started by it: on Linux a child ends with the thread that started it.
    """

    def __init__(self, on_look: Callable[[], None]) -> None:
        self._children: dict[str, Child] = {}
        self._wanted: set[str] = set()
        self._pids: dict[str, int] = {}
        self._on_look = on_look
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._main, name="keeper", daemon=True)
        self._thread.start()

    def keep(self, spec: ChildSpec) -> None:
        """Have it run from now on."""
        with self._lock:
            self._children[spec.name] = Child(spec)
            self._wanted.add(spec.name)

    def resume(self, name: str) -> None:
        """Have what was stopped run again."""
        with self._lock:
            self._children[name] = Child(self._children[name].spec)
            self._wanted.add(name)

    def stop(self, name: str, number: int, within_s: float = _END_WITHIN_S) -> None:
        """End it by this signal, by force where that takes too long, and leave it so."""
        with self._lock:
            self._wanted.discard(name)
            pid = self._pids.get(name)
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        try:
            until(lambda: self._pids.get(name) != pid, within_s, f"{name} ends")
        except AssertionError:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
            until(lambda: self._pids.get(name) != pid, within_s, f"{name} is killed")

    def pids(self) -> dict[str, int]:
        with self._lock:
            return dict(self._pids)

    def is_kept(self, name: str) -> bool:
        return name in self._wanted

    def close(self) -> None:
        """End the thread; the processes have been stopped before."""
        self._closing.set()
        self._thread.join(_END_WITHIN_S)

    def _main(self) -> None:
        while not self._closing.wait(_LOOK_EVERY_S):
            with self._lock:
                self._look()
            self._on_look()

    def _look(self) -> None:
        for name, child in self._children.items():
            if child.reap():
                self._pids.pop(name, None)
            if name in self._wanted and child.is_due(time.monotonic()):
                self._pids[name] = child.start()
