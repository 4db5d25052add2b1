"""Migrations: bring a database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from app.adapters.db.engine import writing
from app.adapters.db.postgres import MIGRATING
from app.adapters.db.schema import other_schema

# The number of an advisory lock, unlikely to be used elsewhere: the first digits of the SHA-256 of "wylon migrate".
_LOCK_KEY = 0x5F73D962
_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the database to `revision`; Unavailable where a newer version of this program has migrated it."""
    with writing(engine, MIGRATING) as connection:
        _take_turns(connection)
        config = _config(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        for newer in set(MigrationContext.configure(connection).get_current_heads()) - known:
            raise other_schema(newer)
        command.upgrade(config, revision)


def unmigrate(engine: Engine, revision: str = "base") -> None:
    """Take the database back to `revision`."""
    with writing(engine, MIGRATING) as connection:
        _take_turns(connection)
        command.downgrade(_config(connection), revision)


def _take_turns(connection: Connection) -> None:
    """Wait for other migrations: later ones find the work done. In SQLite writers take turns anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})


def _config(connection: object) -> Config:
    config = Config()
    # The parser of the configuration reads a percent sign as the start of a reference.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
