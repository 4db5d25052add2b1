"""SQLite: how connections are set up, and how writers take turns."""

import sqlite3
import time
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from app.adapters.db.postgres import USUAL, Limits

# SQLite has one lock for all writers, so that a writer waits longer here than for a row of PostgreSQL.
_LOCK_S = 5.0
# SQLite's own waiters sleep longer after every look, up to 100 ms: newcomers overtake whoever has waited long. Commits
# take milliseconds. With this pause, the slowest of 1,000 creates takes a fifth of the time, and the lines beside the
# creates two thirds.
_LOOK_AGAIN_S = 0.001
# The bits above these say more of the error.
_CODE_BITS = 0xFF
_BUSY = sqlite3.SQLITE_BUSY


def open_sqlite(url: str, *, pool_size: int, max_overflow: int, pool_timeout: float) -> Engine:
    """Return an engine for `sqlite:///PATH`."""
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=pool_timeout,
        # Reuse the connection used last: its pages are in memory already, and the other connections are not needed.
        pool_use_lifo=True,
    )
    turn = Lock()

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # `_begin` below begins transactions by a statement: the driver would begin them too late.
        connection.isolation_level = None
        cursor = connection.cursor()
        _set_busy_timeout(connection, _LOCK_S)
        cursor.execute("PRAGMA journal_mode=WAL")
        # Data confirmed to a caller survives a power cut too; group commit makes the sync cheap.
        cursor.execute("PRAGMA synchronous=FULL")
        # Fold the log back at 64 MiB: fewer stops while a batch is recorded.
        cursor.execute("PRAGMA wal_autocheckpoint=16384")
        cursor.execute("PRAGMA journal_size_limit=67108864")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("is_reading", False):
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_writing(connection, turn, options.get("limits", USUAL))

    return engine


def _begin_writing(connection: Connection, turn: Lock, limits: Limits) -> None:
    """Wait for the writers' lock, and take it.

    A writer takes the lock at once: a later upgrade from reading fails if another writer was faster. One thread of a
    process looks for the lock at a time.
    """
    driver: Any = connection.connection.driver_connection
    give_up_at = time.monotonic() + max(limits.lock_s, _LOCK_S)
    has_turn = turn.acquire(timeout=give_up_at - time.monotonic())
    try:
        _set_busy_timeout(driver, 0.0)
        try:
            while not _is_begun(connection, is_last_look=time.monotonic() > give_up_at):
                time.sleep(_LOOK_AGAIN_S)
        finally:
            _set_busy_timeout(driver, _LOCK_S)
    finally:
        if has_turn:
            turn.release()


def _is_begun(connection: Connection, *, is_last_look: bool) -> bool:
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as fault:
        is_busy = isinstance(fault.orig, sqlite3.Error) and fault.orig.sqlite_errorcode & _CODE_BITS == _BUSY
        if is_last_look or not is_busy:
            raise
        return False
    return True


def _set_busy_timeout(connection: Any, seconds: float) -> None:
    """Set how long a statement waits for another connection."""
    connection.execute(f"PRAGMA busy_timeout={int(seconds * 1_000)}")
