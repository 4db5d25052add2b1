"""Group commit for SQLite: threads of a process that write at once share a transaction, and so a sync of the disk."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, get_ident
from typing import Protocol

from sqlalchemy import Connection, Engine, NestedTransaction
from sqlalchemy.exc import DBAPIError, OperationalError

from app.adapters.db.postgres import Limits

# SQLite has one lock for all writers, so that a writer waits longer here than for a row of PostgreSQL.
LOCK_S = 5.0
# Bounds of a group: other processes wait for the lock meanwhile, and the first thread of the group for its answer.
_MOST_MEMBERS = 32
_JOIN_WITHIN_S = 0.01
# Interval at which a member looks whether the thread that was expected next has given up.
_LOOK_AGAIN_S = 0.02


class Turn(Protocol):
    """A lock."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock; return whether the lock is taken."""

    def release(self) -> None:
        """Let another thread take the lock."""


class GroupCommit:
    """Lets threads write one after the other in one transaction, each in a savepoint, and commits for all.

    A thread that has written leaves the commit to the next thread, if another thread waits and the group has room; the
    last thread commits. No thread goes on before the commit: a thread that failed may have failed because of rows that
    the group had not committed.

    Args:
        join_within_s: how long after its begin a group takes further threads.
        look_again_s: how often a thread that waits for the commit looks whether the turn is free.
        turn: the lock held by the thread that uses the group's connection.
    """

    def __init__(
        self,
        join_within_s: float = _JOIN_WITHIN_S,
        look_again_s: float = _LOOK_AGAIN_S,
        turn: Turn | None = None,
    ) -> None:
        self._join_within_s = join_within_s
        self._look_again_s = look_again_s
        self._turn = turn or Lock()
        self._holder: int | None = None
        self._counting = Lock()
        # The number of threads that wait for their turn.
        self.waiting = 0
        self._group: _Group | None = None

    @contextmanager
    def join(self, engine: Engine, limits: Limits, *, is_synced: bool) -> Iterator[Connection]:
        """Open a transaction that is committed at the end, or rolled back after an exception.

        Args:
            engine: the database; its event "begin" takes the writers' lock.
            limits: how long to wait for the turn, and for the commit.
            is_synced: whether the commit has to survive a power cut.
        """
        self._take_turn(max(limits.lock_s, LOCK_S))
        group = None
        try:
            group = self._open_group(engine, limits, is_synced=is_synced)
            with group.member() as connection:
                yield connection
        finally:
            try:
                if group is not None and (not self.waiting or group.is_over or group.is_full):
                    self._commit(group)
            finally:
                self._holder = None
                self._turn.release()
            if group is not None:
                self._await_commit(group, limits.statement_s)

    def _take_turn(self, within_s: float) -> None:
        if self._holder == get_ident():
            raise RuntimeError("A transaction for writing was opened within another: it would wait for itself.")
        with self._counting:
            self.waiting += 1
        try:
            is_taken = self._turn.acquire(timeout=within_s)
        finally:
            with self._counting:
                self.waiting -= 1
        if not is_taken:
            raise OperationalError("BEGIN IMMEDIATE", None, sqlite3.OperationalError("database is locked"))
        self._holder = get_ident()

    def _open_group(self, engine: Engine, limits: Limits, *, is_synced: bool) -> "_Group":
        if self._group is not None and is_synced and not self._group.is_synced:
            self._commit(self._group)
        if self._group is None:
            self._group = _Group(engine, limits, self._join_within_s, is_synced=is_synced)
        return self._group

    def _commit(self, group: "_Group") -> None:
        self._group = None
        group.commit()

    def _await_commit(self, group: "_Group", within_s: float) -> None:
        give_up_at = time.monotonic() + within_s
        while not group.ended.wait(self._look_again_s):
            if self._turn.acquire(blocking=False):
                # The thread that was expected next came not: it waited for as long as it may.
                try:
                    if not group.ended.is_set():
                        self._commit(group)
                finally:
                    self._turn.release()
            elif time.monotonic() > give_up_at:
                raise OperationalError("COMMIT", None, sqlite3.OperationalError("the commit takes too long"))
        if group.fault is not None:
            # An exception of its own for each thread: a traceback belongs to one thread.
            cause = group.fault.orig if isinstance(group.fault, DBAPIError) else None
            raise OperationalError("COMMIT", None, cause or group.fault) from group.fault


class _Group:
    """A transaction of several threads, of which one at a time uses the connection."""

    def __init__(self, engine: Engine, limits: Limits, join_within_s: float, *, is_synced: bool) -> None:
        self.is_synced = is_synced
        self.ended = Event()
        self.fault: Exception | None = None
        self.is_over = False
        self._members = 0
        self._connection = engine.connect()
        try:
            self._connection.execution_options(is_reading=False, limits=limits, is_synced=is_synced)
            self._connection.begin()
        except BaseException:
            self._connection.close()
            raise
        self._full_at = time.monotonic() + join_within_s

    @property
    def is_full(self) -> bool:
        """Whether no further thread may join."""
        return self._members >= _MOST_MEMBERS or time.monotonic() >= self._full_at

    @contextmanager
    def member(self) -> Iterator[Connection]:
        """Let the calling thread write; after an exception, only the writes of this thread are undone."""
        # The first member needs no savepoint: its exception ends the group.
        is_first, savepoint = self._members == 0, None
        self._members += 1
        try:
            if not is_first:
                savepoint = self._connection.begin_nested()
            yield self._connection
            if savepoint is not None:
                savepoint.commit()
        except BaseException as fault:
            if is_first:
                self.is_over = True
            else:
                self._undo(savepoint, fault)
            raise
        if not self._is_open:
            # SQLite rolls back the whole transaction after some faults, such as a full disk.
            self._fail(_rolled_back())

    def commit(self) -> None:
        """Commit for all members, and let the members go on; a fault is the fault of every member."""
        try:
            if not self.is_over:
                # A commit without a transaction does nothing, and says nothing.
                if not self._is_open:
                    raise _rolled_back()
                self._connection.commit()
        except BaseException as fault:
            self._fail(fault)
            # The transaction is still open, and the pool does not know it.
            self._connection.invalidate()
            if not isinstance(fault, Exception):
                raise
        finally:
            # Without a commit, closing the connection rolls back.
            try:
                self._connection.close()
            finally:
                self.ended.set()

    def _undo(self, savepoint: NestedTransaction | None, fault: BaseException) -> None:
        try:
            if self._is_open:
                if savepoint is not None:
                    savepoint.rollback()
                return
        except Exception as another:
            fault = another
        self._fail(fault)

    def _fail(self, fault: BaseException) -> None:
        self.is_over = True
        self.fault = fault if isinstance(fault, Exception) else sqlite3.OperationalError(str(fault))

    @property
    def _is_open(self) -> bool:
        return bool(self._connection.connection.driver_connection.in_transaction)  # type: ignore[union-attr]


def _rolled_back() -> sqlite3.OperationalError:
    return sqlite3.OperationalError("the transaction was rolled back")
