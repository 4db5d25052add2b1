"""Keeps the log of SQLite's WAL mode short."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine

# By itself SQLite restarts the log only at a moment without readers. With enough readers no such moment comes, and the
# log grows. A log of twice the size at which `engine` folds it back is shortened here.
_LONG_BYTES = 128 * 1024 * 1024
# Writers wait while this checkpoint waits for readers; readers are done within milliseconds.
_WAIT_MS = 250


def shorten_log(engine: Engine, long_bytes: int = _LONG_BYTES) -> bool:
    """Fold a long log into the database and restart the log; return False where that is not needed or not possible.

    A reader that goes on for long, such as a copy being made, prevents the restart: the next call tries again.
    """
    if engine.dialect.name != "sqlite" or engine.url.database is None:
        return False
    log = Path(f"{engine.url.database}-wal")
    if not log.exists() or log.stat().st_size < long_bytes:
        return False
    pooled = engine.raw_connection()
    try:
        connection: Any = pooled.driver_connection
        (usual_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
        # The first checkpoint makes no connection wait, and does nearly all of the work.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        try:
            connection.execute(f"PRAGMA busy_timeout={_WAIT_MS}").fetchone()
            (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout={usual_ms}").fetchone()
        return not is_busy
    finally:
        pooled.close()
