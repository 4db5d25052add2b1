"""What the server of PostgreSQL ends by itself."""

import time

import pytest
from sqlalchemy import Engine, text

from app.adapters.db.engine import open_engine, writing
from app.domain.errors import Unavailable


def test_a_transaction_that_stood_still_is_ended_and_may_be_tried_again(postgres_url: str) -> None:
    engine = open_engine(postgres_url)

    with pytest.raises(Unavailable):
        _stand_still_in_a_transaction(engine)

    with writing(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def _stand_still_in_a_transaction(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 20"))
        time.sleep(0.5)
        connection.execute(text("SELECT 1"))
