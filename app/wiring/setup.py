"""What is done once before the processes start: the schema, and a key to come in with."""

from app.adapters.db.engine import open_engine
from app.adapters.db.migrate import migrate
from app.config import Settings
from app.wiring.keys import open_keys, settle_secret

# Prompts and answers live there: they are their owner's alone.
_DATA_FOLDER_MODE = 0o700


def make_data_folder(settings: Settings) -> None:
    """Make the data folder for its owner's eyes; one that is there stays as it is."""
    settings.data.mkdir(mode=_DATA_FOLDER_MODE, parents=True, exist_ok=True)


def prepare(settings: Settings) -> None:
    """Bring the database to the newest schema and make the folders that are missing."""
    make_data_folder(settings)
    engine = open_engine(settings.database_url)
    try:
        migrate(engine)
    finally:
        engine.dispose()
    settle_secret(settings)


def ensure_key(settings: Settings, key: str) -> bool:
    """Make sure that this API key is known; return whether it lets callers in, which a revoked key does not."""
    with open_keys(settings) as keys:
        return keys.ensure(key)
