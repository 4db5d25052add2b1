import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.deployment_store import SqlDeployment
from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate, unmigrate
from app.adapters.db.result_store import SqlResultStore
from app.adapters.db.tables import metadata
from app.domain.batch import Section
from app.domain.errors import Unavailable
from app.domain.result import NO_USAGE, Result
from app.services.ports import Progress


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    is_sqlite = request.param == "sqlite"
    engine = open_engine(f"sqlite:///{tmp_path / 'wylon.db'}" if is_sqlite else request.getfixturevalue("postgres_url"))
    yield engine
    engine.dispose()


def our_tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_migrations_lead_to_the_tables_in_the_code(engine: Engine) -> None:
    migrate(engine)

    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert differences == []
    assert our_tables(engine) == set(metadata.tables)


def test_migrations_lead_back_to_nothing_and_up_again(engine: Engine) -> None:
    migrate(engine)
    unmigrate(engine)
    assert our_tables(engine) == set()

    migrate(engine)
    assert our_tables(engine) == set(metadata.tables)


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)

    assert our_tables(engine) == set(metadata.tables)


def add_old_batch(engine: Engine, batch_id: str, **fields: object) -> None:
    """Add a batch as it was before there were several upstreams."""
    values = {
        "id": batch_id,
        "tenant_id": "tenant",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-in",
        "completion_window": "24h",
        "status": "in_progress",
        "created_at": 1.0,
        "expires_at": 2.0,
        "total": 0,
        "lines_per_task": 1,
        "tasks_dispatched": 0,
        "completed": 0,
        **fields,
    }
    columns = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO batches ({columns}) VALUES ({marks})"), values)


def add_old_result(engine: Engine, batch_id: str, position: int) -> None:
    tokens = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), 0)
    values = {"batch_id": batch_id, "position": position, "ok": True, "payload": b"{}", **tokens}
    marks = ", ".join(f":{name}" for name in values)
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO results ({', '.join(values)}) VALUES ({marks})"), values)


def test_what_ran_before_there_were_several_upstreams_goes_on_to_the_one_there_was(engine: Engine) -> None:
    migrate(engine, "0002")
    add_old_batch(engine, "batch_1", total=101, lines_per_task=50, tasks_dispatched=2, completed=1)
    add_old_result(engine, "batch_1", 3)
    add_old_batch(engine, "batch_whole", total=100, lines_per_task=50, tasks_dispatched=2)
    add_old_batch(engine, "batch_validating", status="validating")

    migrate(engine)

    store = SqlBatchStore(engine)
    batch = store.find("batch_1")
    assert batch is not None
    assert batch.sections == (Section("default", 0, 3, 0, 101, next_task=2, recorded=1),)
    assert [batch.id for batch in store.undispatched(10)] == ["batch_1"]
    assert store.move_cursor("batch_1", 2, 3)
    progress = SqlResultStore(engine).record([Result("batch_1", 9, True, b"{}", NO_USAGE)])
    assert progress == [Progress("batch_1", True, False, 99, "default")]
    assert [(name, store.find(name).tasks) for name in ("batch_whole", "batch_validating")] == [
        ("batch_whole", 2),
        ("batch_validating", 0),
    ]


def test_what_runs_survives_the_way_back_from_several_upstreams(engine: Engine) -> None:
    migrate(engine, "0002")
    add_old_batch(engine, "batch_1", total=101, lines_per_task=50, tasks_dispatched=2)
    migrate(engine)

    unmigrate(engine, "0002")

    columns = {each["name"] for each in inspect(engine).get_columns("batches")}
    assert columns.isdisjoint({"upstream", "mixed", "waiting_for", "tasks"})
    with engine.connect() as connection:
        query = sa.text("SELECT id, total, tasks_dispatched FROM batches")
        assert connection.execute(query).all() == [("batch_1", 101, 2)]


def test_a_database_has_one_deployment_id_for_as_long_as_it_lives(engine: Engine) -> None:
    migrate(engine)
    first = SqlDeployment(engine).id

    migrate(engine)

    assert re.fullmatch("[0-9a-f]{20}", first)
    assert SqlDeployment(engine).id == first
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT id, storage FROM deployment")).all() == [(first, None)]


def test_two_databases_have_two_deployment_ids(tmp_path: Path) -> None:
    engines = [open_engine(f"sqlite:///{tmp_path / name}") for name in ("one.db", "two.db")]
    for each in engines:
        migrate(each)

    found = {SqlDeployment(each).id for each in engines}

    for each in engines:
        each.dispose()
    assert len(found) == 2


def test_a_database_without_a_deployment_id_is_unavailable(engine: Engine) -> None:
    migrate(engine, "0003")
    with pytest.raises(Unavailable):
        _ = SqlDeployment(engine).id
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM deployment"))

    with pytest.raises(Unavailable, match="wylon migrate"):
        _ = SqlDeployment(engine).id
