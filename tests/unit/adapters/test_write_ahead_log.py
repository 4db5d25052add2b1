"""The log of SQLite begins anew though readers keep it from that by themselves."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from app.adapters.db.engine import open_engine
from app.adapters.db.write_ahead_log import shorten_log

LIMIT_BYTES = 4_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wylon.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (content BLOB)"))
    yield engine
    engine.dispose()


def fill_log(engine: Engine, size: int = LIMIT_BYTES) -> None:
    for _ in range(size // 100_000 + 1):
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO things VALUES (randomblob(100000))"))


def log_bytes(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


def begins_at_its_start(engine: Engine, path: Path) -> bool:
    """Return whether what is written next goes to the start of the log, and so makes it no longer."""
    before = log_bytes(path)
    fill_log(engine, 100_000)
    return log_bytes(path) <= before


def test_a_long_log_begins_anew_once_its_readers_have_moved_on(engine: Engine, path: Path) -> None:
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM things").fetchone()
    fill_log(engine)
    kept = shorten_log(engine, LIMIT_BYTES)
    grows = not begins_at_its_start(engine, path)
    reader.execute("COMMIT")

    shortened = shorten_log(engine, LIMIT_BYTES)

    assert (kept, grows, shortened) == (False, True, True)
    assert begins_at_its_start(engine, path)
    reader.close()


def test_a_short_log_is_left_alone(engine: Engine, path: Path) -> None:
    fill_log(engine)

    assert not shorten_log(engine, 10 * LIMIT_BYTES)
    assert not begins_at_its_start(engine, path)


def test_a_connection_waits_for_its_turn_as_long_as_before(engine: Engine) -> None:
    with engine.connect() as connection:
        usual = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    fill_log(engine)

    shorten_log(engine, LIMIT_BYTES)

    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == usual


def test_a_database_without_such_a_log_needs_nothing() -> None:
    assert not shorten_log(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    assert not shorten_log(create_engine("sqlite://"))
