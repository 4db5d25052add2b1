from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate, unmigrate
from app.adapters.db.tables import metadata


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
