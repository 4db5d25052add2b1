"""Checks the parts of a process in the background: one look at a time for a part, and no caller waits long."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait

# A program watching the process gives up after a few seconds.
_WITHIN_S = 2.0
# Many callers may ask at once, or often: the callers share a look.
_KEPT_S = 1.0

Check = Callable[[], None]


class Readiness:
    """Runs checks; a check raises if its part does not work."""

    def __init__(self, within_s: float = _WITHIN_S) -> None:
        self._within_s = within_s
        self._looks: dict[str, _Look] = {}
        self._lock = threading.Lock()

    def failing(self, checks: Mapping[str, Check]) -> dict[str, str]:
        """Return, by name, the reason of every check that fails or does not end in time."""
        looks = {name: self._look(name, check) for name, check in checks.items()}
        wait([look.done for look in looks.values()], self._within_s)
        failing = {}
        for name, look in looks.items():
            if not look.done.done():
                failing[name] = f"no answer within {self._within_s:g} s"
            elif (fault := look.done.exception()) is not None:
                failing[name] = told(fault)
        return failing

    def _look(self, name: str, check: Check) -> "_Look":
        with self._lock:
            look = self._looks.get(name)
            # Start no second look beside a hanging look.
            if look is None or (look.done.done() and time.monotonic() - look.began_at > _KEPT_S):
                look = self._looks[name] = _Look(check)
            return look


def told(fault: BaseException) -> str:
    """Return a fault's message in one line."""
    return " ".join(str(fault).split()) or type(fault).__name__


class _Look:
    def __init__(self, check: Check) -> None:
        self.began_at = time.monotonic()
        self.done: Future[None] = Future()
        self._check = check
        threading.Thread(target=self._run, name="readiness", daemon=True).start()

    def _run(self) -> None:
        try:
            self._check()
        except Exception as fault:  # every exception is the check's answer
            self.done.set_exception(fault)
        else:
            self.done.set_result(None)
