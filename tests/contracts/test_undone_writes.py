"""A write that failed before its commit is undone; of a write whose commit failed nobody knows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from app.adapters.db.engine import open_engine, writing
from app.domain.errors import NotWritten, Unavailable

LOST = OperationalError(None, None, ConnectionError("the connection was lost"))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    is_sqlite = request.param == "sqlite"
    engine = open_engine(f"sqlite:///{tmp_path}/db" if is_sqlite else request.getfixturevalue("postgres_url"))
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE numbers (number INTEGER)"))
    yield engine
    engine.dispose()


def lose(_: Connection) -> None:
    raise LOST


def add_and_lose(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))
        raise LOST


def test_a_write_that_fails_before_its_commit_is_undone_and_says_so(engine: Engine) -> None:
    with pytest.raises(NotWritten):
        add_and_lose(engine)

    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM numbers")) == 0


def test_of_a_write_whose_commit_fails_nobody_says_that_it_was_undone(engine: Engine) -> None:
    event.listen(engine, "commit", lose)

    with pytest.raises(Unavailable) as failed, writing(engine) as connection:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))

    assert not isinstance(failed.value, NotWritten)
