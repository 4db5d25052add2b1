"""SQLite: how connections are set up, and how writers take turns."""

import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from app.adapters.db.group_commit import LOCK_S, GroupCommit
from app.adapters.db.postgres import USUAL, Limits

# The option of an engine with its group commit.
GROUPS = "groups"
# SQLite's own waiters sleep longer after every look, up to 100 ms: newcomers overtake whoever has waited long. Commits
# take milliseconds. With this pause, the slowest of 1,000 creates takes a fifth of the time, and the lines beside the
# creates two thirds.
_LOOK_AGAIN_S = 0.001
# Data confirmed to a caller survives a power cut too: a commit syncs the log. Without it, the next commit that syncs
# also covers the commits before it.
_SYNC = "PRAGMA synchronous=FULL"
_DO_NOT_SYNC = "PRAGMA synchronous=NORMAL"
# Noted with each connection.
_IS_SYNCED = "is_synced"
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
        execution_options={GROUPS: GroupCommit()},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # `_begin` below begins transactions by a statement: the driver would begin them too late.
        connection.isolation_level = None
        cursor = connection.cursor()
        _set_busy_timeout(connection, LOCK_S)
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(_SYNC)
        # Fold the log back at 64 MiB: fewer stops while a batch is recorded.
        cursor.execute("PRAGMA wal_autocheckpoint=16384")
        cursor.execute("PRAGMA journal_size_limit=67108864")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("is_reading", False):
            driver: Any = connection.connection.driver_connection
            try:
                driver.execute("BEGIN")
            except sqlite3.Error as fault:
                raise OperationalError("BEGIN", None, fault) from fault
        else:
            _begin_writing(connection, options.get("limits", USUAL), is_synced=options.get("is_synced", True))

    return engine


def _begin_writing(connection: Connection, limits: Limits, *, is_synced: bool) -> None:
    """Wait for the writers' lock, and take it.

    A writer takes the lock at once: a later upgrade from reading fails if another writer was faster.
    """
    driver: Any = connection.connection.driver_connection
    give_up_at = time.monotonic() + max(limits.lock_s, LOCK_S)
    if connection.info.get(_IS_SYNCED, True) is not is_synced:
        # Not possible within the transaction.
        driver.execute(_SYNC if is_synced else _DO_NOT_SYNC)
        connection.info[_IS_SYNCED] = is_synced
    _set_busy_timeout(driver, 0.0)
    try:
        while not _is_begun(driver, is_last_look=time.monotonic() > give_up_at):
            time.sleep(_LOOK_AGAIN_S)
    finally:
        _set_busy_timeout(driver, LOCK_S)


def _is_begun(driver: Any, *, is_last_look: bool) -> bool:
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as fault:
        if is_last_look or fault.sqlite_errorcode & _CODE_BITS != _BUSY:
            raise OperationalError("BEGIN IMMEDIATE", None, fault) from fault
        return False
    return True


def _set_busy_timeout(connection: Any, seconds: float) -> None:
    """Set how long a statement waits for another connection."""
    connection.execute(f"PRAGMA busy_timeout={int(seconds * 1_000)}")
