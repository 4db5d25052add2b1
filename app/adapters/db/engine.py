"""Engines, and the two kinds of transaction: for reading and for writing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import psycopg
from psycopg.errors import DiskFull
from sqlalchemy import Connection, Engine, create_engine, event, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.adapters.db import postgres
from app.adapters.db.faults import explain_database_fault, is_lasting, shown
from app.adapters.db.postgres import USUAL, BoundedConnection, Limits
from app.adapters.db.sqlite import GROUPS, open_sqlite
from app.adapters.db.tables import probes
from app.domain.errors import NotWritten, SettingInvalid, StorageFull, Unavailable

_POOL_SIZE = 8
_MAX_OVERFLOW = 24
_POOL_WAIT_S = 3
# How long to search for a writable server: work that is sent again later need not wait out a fail-over.
_FIND_WRITER_S = 2.0
_FIND_AGAIN_S = 0.2


def open_engine(url: str) -> Engine:
    """Return an engine for `sqlite:///PATH` or `postgresql://…`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return open_sqlite(url, pool_size=_POOL_SIZE, max_overflow=_MAX_OVERFLOW, pool_timeout=_POOL_WAIT_S)
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=_POOL_SIZE,
        max_overflow=_MAX_OVERFLOW,
        pool_timeout=_POOL_WAIT_S,
        connect_args=postgres.connect_options(parsed),
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> BoundedConnection:
        try:
            connection = BoundedConnection.connect(*arguments, **options)
        except psycopg.Error as fault:
            if not is_lasting(fault):
                raise
            raise SettingInvalid(explain_database_fault(fault, parsed)) from None
        postgres.check_encoding(connection, shown(parsed))
        return connection

    return engine


@contextmanager
def reading(engine: Engine, limits: Limits = USUAL) -> Iterator[Connection]:
    """Open a connection that reads one moment's state; nothing is committed."""
    with _errors(engine), _begun(engine, limits) as connection:
        yield connection


@contextmanager
def writing(engine: Engine, limits: Limits = USUAL, *, is_synced: bool = True) -> Iterator[Connection]:
    """Open a transaction, committed at the end, or rolled back after an exception.

    On SQLite, threads that write at once share a commit. With `is_synced=False` a power cut may undo the commit,
    together with all later commits, but the death of a process may not. PostgreSQL syncs each commit: a server that
    crashes must not go back in time before processes that live on.

    Raises:
        NotWritten: the database is away or full, and nothing was committed.
        Unavailable: the database is away, and nobody knows whether the transaction was committed.
    """
    ending = Event()
    with _errors(engine, ending):
        groups = engine.get_execution_options().get(GROUPS)
        if groups is not None:
            with groups.join(engine, limits, is_synced=is_synced) as connection:
                yield connection
                ending.set()
            return
        with _begun(engine, limits) as connection:
            yield connection
            ending.set()
            connection.commit()


@contextmanager
def _begun(engine: Engine, limits: Limits) -> Iterator[Connection]:
    """Open a transaction on a writable server; a connection that broke or became read-only is replaced.

    The connection is tested before the first statement, so that no work has to be done twice.
    """
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.execution_options(is_reading=True)
            yield connection
        return
    with _find_writer(engine, limits) as connection:
        try:
            yield connection
        except DBAPIError as fault:
            if isinstance(fault.orig, postgres.PASSING_FAULTS):
                connection.invalidate(fault)
            raise


def _find_writer(engine: Engine, limits: Limits) -> Connection:
    give_up_at = time.monotonic() + _FIND_WRITER_S
    tries = 0
    while True:
        tries += 1
        connection = None
        try:
            connection = engine.connect()
            if postgres.begin(connection, limits):
                return connection
            raise OperationalError(None, None, _ReadOnly("the server is read-only since a fail-over"))
        except (OperationalError, InterfaceError, InternalError) as fault:
            if connection is not None:
                connection.invalidate(fault)
                connection.close()
            if time.monotonic() > give_up_at:
                raise
            # The pool may hold many broken connections. After this many tries the server itself is not ready.
            if connection is None or tries > _POOL_SIZE + _MAX_OVERFLOW:
                time.sleep(_FIND_AGAIN_S)
        except BaseException:
            if connection is not None:
                connection.close()
            raise


class _ReadOnly(Exception):
    """A read-only server."""


@contextmanager
def _errors(engine: Engine, ending: Event | None = None) -> Iterator[None]:
    """Report that the database is full or away; `ending` is set once the commit of a write has begun."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeout) as fault:
        # Passing faults are reported; any other internal error is a bug and must be seen.
        if isinstance(fault, InternalError) and not isinstance(fault.orig, postgres.PASSING_FAULTS):
            raise
        if _is_full(fault):
            raise StorageFull("No room is left where the database is kept.") from fault
        is_undone = ending is not None and not ending.is_set()
        kind = NotWritten if is_undone else Unavailable
        raise kind(explain_database_fault(fault, engine.url)) from fault


def _is_full(fault: Exception) -> bool:
    cause = getattr(fault, "orig", None)
    return getattr(cause, "sqlite_errorname", None) == "SQLITE_FULL" or isinstance(cause, DiskFull)


def check(engine: Engine) -> None:
    """Raise where the database does not answer or is read-only; the schema does not matter."""
    with writing(engine) as connection:
        connection.exec_driver_sql("SELECT 1")


def check_writes(engine: Engine) -> None:
    """Raise where the database accepts no write: the database is away, full, locked or read-only."""
    with writing(engine) as connection:
        if connection.execute(update(probes).values(written_at=time.time())).rowcount == 0:
            raise Unavailable("The database was never prepared: run `wylon migrate`.")
