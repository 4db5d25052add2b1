"""The log of SQLite's WAL mode, kept short."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine

# SQLite begins the log anew by itself only in a moment in which nobody reads from it. With enough readers there is no
# such moment, and the log grows: past twice what it is folded back at (`engine`), it is seen to.
_LONG_BYTES = 128 * 1024 * 1024
# Writers wait for this as long as it waits for readers, who are done within milliseconds.
_WAIT_MS = 250


def shorten_log(engine: Engine, long_bytes: int = _LONG_BYTES) -> bool:
    """Fold a log that has become long into the database and have it begin anew; False where there is no need or way.

    A reader that goes on for long, such as a copy that is being made, keeps it from that: the next call tries again.
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
        # Nobody waits for the first, which does nearly all of the work.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        try:
            connection.execute(f"PRAGMA busy_timeout={_WAIT_MS}").fetchone()
            (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout={usual_ms}").fetchone()
        return not is_busy
    finally:
        pooled.close()
