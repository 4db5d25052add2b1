"""Two at once, in an order that is told: one stands at a point of its way while the other goes on."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Barrier, Event
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Engine, event, text

from app.domain.errors import StateConflict
from tests.races.sides import Side

T = TypeVar("T")
WAIT_S = 30.0
_LOOK_S = 0.005
COMMIT = "COMMIT"
_LOCKED = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@dataclass
class Stop:
    """A point at which the first to come stands until it is let go; who comes later passes."""

    reached: Event = field(default_factory=Event)
    _go_on: Event = field(default_factory=Event)

    def stand(self) -> None:
        if not self.reached.is_set():
            self.reached.set()
            assert self._go_on.wait(WAIT_S)

    def let_go(self) -> None:
        self._go_on.set()


class Stopping:
    """A port that stands at a stop before each call of one of its methods."""

    def __init__(self, port: Any, method: str, stop: Stop) -> None:
        self._port = port
        self._method = method
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            self._stop.stand()
        return getattr(self._port, name)


class Outcome(NamedTuple):
    """What the two came to; a StateConflict is a value. `has_waited`: the second had to wait for the first."""

    first: Any
    second: Any
    has_waited: bool


def meanwhile(one: Side, first: Callable[[], object], at: str, other: Side, second: Callable[[], object]) -> Outcome:
    """Run `first` up to the statement that begins so, or to its commit; then `second`, until it ends or waits."""
    stop = Stop()
    with ThreadPoolExecutor(2) as pool, _standing(one.engine, at, stop):
        try:
            ahead = pool.submit(outcome_of, first)
            assert stop.reached.wait(WAIT_S), f"the first never came to {at}"
            behind = pool.submit(outcome_of, second)
            has_waited = _waits(other.engine, behind)
        finally:
            stop.let_go()
        return Outcome(ahead.result(WAIT_S), behind.result(WAIT_S), has_waited)


def while_standing(stop: Stop, first: Callable[[], T], then: Callable[[], object]) -> T:
    """Run `first` up to the stop, then all of `then`, then the rest of `first`, and return what that came to."""
    with ThreadPoolExecutor(1) as pool:
        try:
            ahead = pool.submit(first)
            assert stop.reached.wait(WAIT_S), "the stop was never reached"
            then()
        finally:
            stop.let_go()
        return ahead.result(WAIT_S)


def at_once(calls: Sequence[Callable[[], object]]) -> list[Any]:
    """Run the calls at the same moment, and leave to luck who is first."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        barrier.wait(WAIT_S)
        return outcome_of(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def outcome_of(call: Callable[[], object]) -> object:
    """Return what a call returns, or the StateConflict that it raises."""
    try:
        return call()
    except StateConflict as conflict:
        return conflict


def is_sqlite(side: Side) -> bool:
    """Return whether a whole transaction that writes keeps all others out."""
    return side.engine.dialect.name == "sqlite"


@contextmanager
def _standing(engine: Engine, at: str, stop: Stop) -> Iterator[None]:
    def on_commit(_connection: object) -> None:
        stop.stand()

    def on_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(at.upper()):
            stop.stand()

    name, listener = ("commit", on_commit) if at == COMMIT else ("before_cursor_execute", on_statement)
    event.listen(engine, name, listener)
    try:
        yield
    finally:
        event.remove(engine, name, listener)


def _waits(engine: Engine, behind: Future[Any]) -> bool:
    """Return whether it waits for a lock, as soon as it does or has ended."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if wait([behind], _LOOK_S).done:
            return False
        if engine.dialect.name == "sqlite":
            # The first is in a transaction that writes: no other one begins.
            return True
        with engine.connect() as connection:
            if connection.execute(_LOCKED).scalar_one():
                return True
    raise AssertionError("the second neither waits nor ends")
