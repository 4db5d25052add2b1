"""The setup before the processes start: the schema, the storage and a first API key."""

from collections.abc import Callable
from functools import partial

from sqlalchemy import Engine

from app.adapters.blobs.adoption import adopt_storage, check_storage
from app.adapters.db.deployment_store import SqlDeployment
from app.adapters.db.engine import open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.migrate import migrate
from app.config import Settings
from app.wiring.keys import open_keys, settle_secret
from app.wiring.privacy import correct_modes, keep_private
from app.wiring.start import await_parts

# Number of newest and of oldest files to look for in a storage without a marker: a found file proves the owner.
_PROOFS = 100
# The folder holds prompts and answers, for the owner alone.
_DATA_FOLDER_MODE = 0o700


def make_data_folder(settings: Settings, say: Callable[[str], None]) -> None:
    """Make the data folder private to its owner; in an existing folder, close files open to other users, and say so."""
    keep_private()
    settings.data.mkdir(mode=_DATA_FOLDER_MODE, parents=True, exist_ok=True)
    for words in correct_modes(settings):
        say(words)


def prepare(
    settings: Settings, tell: Callable[[str], None] = lambda _: None, *, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Bring the database to the newest schema, make the folders that are missing, and mark the storage.

    Args:
        settings: settings of the deployment.
        tell: called with the reason while `prepare` waits for the storage.
        should_stop: whether the process was asked to end, which ends the wait.

    Raises:
        PartsMissing: the folder for files did not become the storage of this database in time.
    """
    settings.data.mkdir(mode=_DATA_FOLDER_MODE, parents=True, exist_ok=True)
    engine = open_engine(settings.database_url)
    try:
        migrate(engine)
        # A folder not yet mounted looks like a wrong folder.
        storage = {"storage": partial(_settle_storage, settings, engine)}
        await_parts(storage, tell, within_s=settings.start_wait_s, should_stop=should_stop)
    finally:
        engine.dispose()
    settle_secret(settings)


def _settle_storage(settings: Settings, engine: Engine) -> None:
    deployment = SqlDeployment(engine)
    storage_id = deployment.find_storage()
    if storage_id is not None:
        check_storage(settings.storage_folder, storage_id)
        return
    known = SqlFileStore(engine).some_blobs(_PROOFS)
    deployment.note_storage(adopt_storage(settings.storage_folder, deployment.id, known))


def ensure_key(settings: Settings, key: str) -> bool:
    """Make sure the API key is known; return whether the key lets callers in, which a revoked key does not."""
    with open_keys(settings) as keys:
        return keys.ensure(key)
