"""A database of SQLite whose threads share transactions, and the work of threads."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Connection, event, text

from app.adapters.db.engine import open_engine, reading, writing
from app.adapters.db.group_commit import GroupCommit
from app.adapters.db.postgres import USUAL
from tests.integration.processes import until

WITHIN_S = 60.0
_LOOK_EVERY_S = 0.001
# Long enough for every thread to join, however busy the machine, and for none to commit in the place of the next.
JOIN_S = LOOK_S = 600.0

Body = Callable[[Connection], object]


class House:
    """A database with a table of numbers, and a note of each statement."""

    def __init__(self, path: Path) -> None:
        self.statements: list[str] = []
        self.engine = open_engine(f"sqlite:///{path}")
        event.listen(self.engine, "connect", lambda driver, _: driver.set_trace_callback(self.statements.append))
        with writing(self.engine) as connection:
            connection.execute(text("CREATE TABLE numbers (number INTEGER)"))
            connection.execute(text("CREATE TABLE owners (id INTEGER PRIMARY KEY)"))
            connection.execute(
                text("CREATE TABLE owned (owner INTEGER REFERENCES owners DEFERRABLE INITIALLY DEFERRED)")
            )
        self.statements.clear()
        self.groups = GroupCommit(JOIN_S, LOOK_S)
        self.threads = ThreadPoolExecutor(64)

    def write(self, body: Body, *, is_synced: bool = True) -> None:
        with self.groups.join(self.engine, USUAL, is_synced=is_synced) as connection:
            body(connection)

    def start(self, body: Body, *, is_synced: bool = True) -> "Future[None]":
        return self.threads.submit(self.write, body, is_synced=is_synced)

    def start_behind(self, bodies: list[Body], first: Body, *, is_first_synced: bool = True) -> "list[Future[None]]":
        """Start the first body, and the other bodies while the first is at work."""
        may_end = threading.Event()

        def first_and_wait(connection: Connection) -> None:
            assert may_end.wait(WITHIN_S)
            first(connection)

        started = [self.start(first_and_wait, is_synced=is_first_synced)]
        self.await_begin()
        for body in bodies:
            waiting = self.groups.waiting
            started.append(self.start(body))
            self.await_waiting(waiting + 1)
        may_end.set()
        return started

    def await_begin(self) -> None:
        until(lambda: "BEGIN IMMEDIATE" in self.statements, WITHIN_S, "a transaction has begun", every_s=_LOOK_EVERY_S)

    def await_waiting(self, threads: int) -> None:
        until(lambda: self.groups.waiting >= threads, WITHIN_S, f"{threads} threads wait", every_s=_LOOK_EVERY_S)

    def numbers(self) -> list[int]:
        with reading(self.engine) as connection:
            return list(connection.scalars(text("SELECT number FROM numbers ORDER BY number")))

    def commits(self) -> int:
        return self.statements.count("COMMIT")

    def close(self) -> None:
        self.threads.shutdown()
        self.engine.dispose()


def adding(number: int) -> Body:
    """Return a body that adds a number."""
    return lambda connection: connection.execute(text(f"INSERT INTO numbers VALUES ({number})"))


def adding_and_failing(number: int) -> Body:
    """Return a body that adds a number and fails."""

    def add_and_fail(connection: Connection) -> None:
        adding(number)(connection)
        raise LookupError(number)

    return add_and_fail
