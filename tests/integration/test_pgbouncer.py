"""All of it behind a pooler that hands a connection on after each transaction."""

import pytest
from sqlalchemy import text

from app.adapters.db.engine import check_writes, open_engine, reading, writing
from app.adapters.db.migrate import migrate, unmigrate
from app.adapters.db.postgres import Limits
from app.domain.errors import Unavailable
from app.domain.lifecycle import Status
from tests.integration.pgbouncer import needs_pgbouncer, pooled
from tests.integration.pipeline import Pipeline, request_lines

pytestmark = [pytest.mark.integration, needs_pgbouncer()]

_LINES = 200


def test_batches_run_from_the_first_migration_to_the_files(postgres_url: str) -> None:
    with pooled(postgres_url) as url:
        pipeline = Pipeline(url)
        try:
            pipeline.start("control", "files", "worker-1", "worker-2", "beat")
            ids = [pipeline.submit(request_lines(_LINES)) for _ in range(3)]

            batches = [pipeline.await_end(batch_id) for batch_id in ids]

            assert [(batch.status, batch.completed) for batch in batches] == [(Status.COMPLETED, _LINES)] * 3
            said = "".join(process.said() for process in pipeline.processes.values())
            assert "prepared statement" not in said
        finally:
            pipeline.end()


def test_limits_hold_for_their_transaction_and_stay_in_no_connection(postgres_url: str) -> None:
    with pooled(postgres_url, connections=1) as url:
        engine = open_engine(url)
        with writing(engine, Limits(1.0, 7.0, 1.0)) as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "7s"
        with reading(engine) as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "30s"
        engine.dispose()

    plain = open_engine(postgres_url)
    with plain.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    plain.dispose()


def test_migrations_go_up_and_down_and_up(postgres_url: str) -> None:
    with pooled(postgres_url, connections=1) as url:
        engine = open_engine(url)
        migrate(engine)
        unmigrate(engine)
        migrate(engine)
        check_writes(engine)
        engine.dispose()


def test_a_server_behind_the_pooler_that_can_only_read_is_not_ready(postgres_url: str) -> None:
    plain = open_engine(postgres_url)
    migrate(plain)
    with plain.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    plain.dispose()

    with pooled(postgres_url) as url:
        engine = open_engine(url)
        with pytest.raises(Unavailable, match="read-only"):
            check_writes(engine)
        engine.dispose()
