"""Engines, and the two kinds of transaction: one that reads, one that writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg.errors import DiskFull, IdleInTransactionSessionTimeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.domain.errors import StorageFull, Unavailable

# A writer of SQLite waits this long for the one before it; commits take milliseconds.
_SQLITE_BUSY_MS = 30_000
_POOL_SIZE = 8
_MAX_OVERFLOW = 24
_POOL_WAIT_S = 30
_POSTGRES_OPTIONS = {
    "connect_timeout": 10,
    # A server that is gone without a word is noticed within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def open_engine(url: str) -> Engine:
    """Return an engine for `sqlite:///PATH` or `postgresql://…`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(url)
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=_POOL_SIZE,
        max_overflow=_MAX_OVERFLOW,
        pool_timeout=_POOL_WAIT_S,
        # A connection that died with its server is replaced before it is used.
        pool_pre_ping=True,
        connect_args=_POSTGRES_OPTIONS,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # A process that stands still within a transaction, or is cut off in it, must not keep its locks from the rest.
        connection.execute("SET idle_in_transaction_session_timeout = 10000")
        connection.commit()

    return engine


def _open_sqlite(url: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=_POOL_SIZE,
        max_overflow=_MAX_OVERFLOW,
        pool_timeout=_POOL_WAIT_S,
        # The connection used last is used again: its pages are in memory already, and the others' are not needed.
        pool_use_lifo=True,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # Transactions are begun below, in words: the driver would begin them too late.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_SQLITE_BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        # What a caller was told survives a power cut, too; group commit makes the sync cheap.
        cursor.execute("PRAGMA synchronous=FULL")
        # 64 MiB of log before it is folded back: fewer stops while a batch is recorded.
        cursor.execute("PRAGMA wal_autocheckpoint=16384")
        cursor.execute("PRAGMA journal_size_limit=67108864")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its lock at once: upgrading a read later fails where another wrote meanwhile.
        is_reading = connection.get_execution_options().get("is_reading", False)
        connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a connection for reads of one moment; nothing is committed."""
    with _errors(), engine.connect().execution_options(is_reading=True) as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that is committed at the end, or rolled back when it raises."""
    with _errors(), engine.begin() as connection:
        yield connection


@contextmanager
def _errors() -> Iterator[None]:
    """Say in our words that the database is full or away."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeout) as fault:
        # The server ends a transaction that stood still; anything else internal is a fault to be seen.
        if isinstance(fault, InternalError) and not isinstance(fault.orig, IdleInTransactionSessionTimeout):
            raise
        if _is_full(fault):
            raise StorageFull("No room is left where the database is kept.") from fault
        raise Unavailable(f"The database does not answer: {fault.args[0] if fault.args else fault}") from fault


def _is_full(fault: Exception) -> bool:
    cause = getattr(fault, "orig", None)
    return getattr(cause, "sqlite_errorname", None) == "SQLITE_FULL" or isinstance(cause, DiskFull)


def check(engine: Engine) -> None:
    """Raise where the database does not answer."""
    with reading(engine) as connection:
        connection.exec_driver_sql("SELECT 1")
