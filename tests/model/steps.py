"""Every call that a service makes of a port is a step, at which its process may die, stall or be refused."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any

from app.domain.errors import StorageFull, Unavailable, WylonError

_WAIT_S = 60.0


class Crash(BaseException):
    """The process is gone: nothing behind this point happens, no clean-up either."""


class How(StrEnum):
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    STALL = "stall"


@dataclass(frozen=True)
class Fault:
    """What befalls an operation, and at which of its steps from now on (0-based)."""

    at: int
    how: How


class Operation:
    """One call of a service by one process; a stalled one is a thread that waits to be resumed."""

    def __init__(self, name: str, run: Callable[[], object]) -> None:
        self.name = name
        self.value: object = None
        # A domain error, which its process would log; anything else is a bug, and raised.
        self.error: WylonError | None = None
        self.is_over = False
        self.is_dead = False
        self._run = run
        self._bug: BaseException | None = None
        self._fault: Fault | None = None
        self._step = 0
        self._go_on = threading.Semaphore(0)
        self._parked = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def start(self, fault: Fault | None) -> None:
        """Run to the end, or to where the fault stalls it."""
        self._fault = fault
        if fault is None or fault.how is not How.STALL:
            self._main()
        else:
            self._thread = threading.Thread(target=self._in_thread, name=self.name, daemon=True)
            self._thread.start()
            self._wait()
        self._raise_bug()

    def resume(self, fault: Fault | None = None) -> None:
        """Go on after a stall."""
        self._fault, self._step = fault, 0
        self._go_on.release()
        self._wait()
        self._raise_bug()

    def kill(self) -> None:
        """Let the process of a stalled operation die."""
        self.is_dead = True
        self.resume()

    def before(self, refusal: type[WylonError]) -> None:
        """Meet what befalls the operation ahead of a step."""
        if self.is_dead:
            raise Crash
        if self._fault is None or self._step != self._fault.at:
            return
        if self._fault.how is How.STALL:
            self._parked.release()
            assert self._go_on.acquire(timeout=_WAIT_S)
            # It was given a fault of its own for what is left, or died.
            self.before(refusal)
        elif self._fault.how is How.CRASH_BEFORE:
            self._die()
        elif self._fault.how is How.ERROR_BEFORE:
            raise self._refused(refusal)

    def after(self, refusal: type[WylonError]) -> None:
        """Meet what befalls the operation behind a step that took effect."""
        fault, is_here = self._fault, self._fault is not None and self._step == self._fault.at
        self._step += 1
        if fault is not None and is_here:
            if fault.how is How.CRASH_AFTER:
                self._die()
            elif fault.how is How.ERROR_AFTER:
                raise refusal("The answer was lost.")

    def _refused(self, refusal: type[WylonError]) -> WylonError:
        self._step += 1
        return refusal("It does not answer.")

    def _die(self) -> None:
        self.is_dead = True
        raise Crash

    def _main(self) -> None:
        try:
            self.value = self._run()
        except Crash:
            pass
        except WylonError as fault:
            self.error = fault
        except BaseException as bug:
            self._bug = bug
        self.is_over = True

    def _in_thread(self) -> None:
        self._main()
        self._parked.release()

    def _wait(self) -> None:
        assert self._parked.acquire(timeout=_WAIT_S), f"{self.name} neither ends nor stalls"
        if self.is_over and self._thread is not None:
            self._thread.join(_WAIT_S)

    def _raise_bug(self) -> None:
        if self._bug is not None:
            raise self._bug


class Steps:
    """Knows which operation runs; one does at a time, whatever is stalled beside it."""

    def __init__(self) -> None:
        # Told of each step that took effect, and of what it was given.
        self.on_effect: Callable[[str, tuple[Any, ...]], None] = lambda *_: None
        self._running: list[Operation] = []

    @property
    def running(self) -> Operation | None:
        return self._running[-1] if self._running else None

    def run(self, name: str, call: Callable[[], object], fault: Fault | None = None) -> Operation:
        operation = Operation(name, call)
        self._let(operation, lambda: operation.start(fault))
        return operation

    def resume(self, operation: Operation, fault: Fault | None = None) -> None:
        self._let(operation, lambda: operation.resume(fault))

    def kill(self, operation: Operation) -> None:
        self._let(operation, operation.kill)

    def take(self, name: str, refusal: type[WylonError], do: Callable[[], Any], args: tuple[Any, ...] = ()) -> Any:
        """Do one step of the operation that runs."""
        operation = self.running
        assert operation is not None, f"{name} is called by no operation"
        operation.before(refusal)
        value = do()
        self.on_effect(name, args)
        operation.after(refusal)
        return value

    def _let(self, operation: Operation, go: Callable[[], None]) -> None:
        self._running.append(operation)
        try:
            go()
        finally:
            self._running.remove(operation)


class Stepped:
    """A port, or what one handed out, each call of which is a step."""

    def __init__(self, steps: Steps, port: Any, refusal: type[WylonError] = Unavailable) -> None:
        self._steps = steps
        self._port = port
        self._refusal = refusal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "lock":
                return _SteppedLock(self._steps, method(*args, **kwargs))
            value = self._steps.take(name, self._refusal, lambda: method(*args, **kwargs), args)
            if isinstance(value, Iterator):
                return self._iterate(name, value)
            return Stepped(self._steps, value, self._refusal) if name == "create" else value

        return call

    def _iterate(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._steps.take(name, self._refusal, lambda: next(items, end))) is not end:
            yield item


class _SteppedLock:
    """A lock that a process which died gives back to nobody: it has to run out."""

    def __init__(self, steps: Steps, lock: Any) -> None:
        self._steps = steps
        self._lock = lock

    def __enter__(self) -> bool:
        return bool(self._steps.take("lock", Unavailable, self._lock.__enter__))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._steps.take("unlock", Unavailable, lambda: self._lock.__exit__(None, None, None))


def stepped_blobs(steps: Steps, blobs: Any) -> Any:
    """Return blobs that have no room where they fail."""
    return Stepped(steps, blobs, StorageFull)
