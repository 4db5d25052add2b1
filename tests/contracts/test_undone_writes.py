"""A write that failed before its commit is undone; of a write whose commit failed nobody knows."""

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from app.adapters.db.engine import writing
from app.domain.errors import NotWritten, Unavailable

LOST = OperationalError(None, None, ConnectionError("the connection was lost"))


@pytest.fixture
def numbers(engine: Engine) -> Engine:
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE numbers (number INTEGER)"))
    return engine


def lose(_: Connection) -> None:
    raise LOST


def add_and_lose(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))
        raise LOST


def test_a_write_that_fails_before_its_commit_is_undone_and_says_so(numbers: Engine) -> None:
    with pytest.raises(NotWritten):
        add_and_lose(numbers)

    with numbers.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM numbers")) == 0


def test_of_a_write_whose_commit_fails_nobody_says_that_it_was_undone(numbers: Engine) -> None:
    event.listen(numbers, "commit", lose)

    with pytest.raises(Unavailable) as failed, writing(numbers) as connection:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))

    assert not isinstance(failed.value, NotWritten)
