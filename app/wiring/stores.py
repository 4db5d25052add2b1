"""Database, blobs and broker, opened once in a process."""

from dataclasses import dataclass
from functools import cache

import structlog
from sqlalchemy import Engine

from app.adapters.blobs.local import LocalBlobs
from app.adapters.broker.connections import EVERY_KEY, key_prefix, open_client
from app.adapters.broker.key_space import KeySpaceRedis
from app.adapters.clock import SystemClock
from app.adapters.db.api_key_store import SqlKeyStore
from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.deployment_store import SqlDeployment
from app.adapters.db.engine import open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.key_store import SqlIdempotencyStore
from app.adapters.db.result_store import SqlResultStore
from app.adapters.db.tick_store import SqlTickStore
from app.adapters.db.trial_store import SqlTrialStore
from app.config import Settings
from app.domain.errors import StorageFull, Unavailable
from app.services.ports import Clock

log = structlog.get_logger()

_REDIS_TIMEOUT_S = 10.0
_LOOK_TIMEOUT_S = 4.0


@dataclass(frozen=True)
class Stores:
    """The stores that keep state, opened once in a process."""

    engine: Engine
    deployment: SqlDeployment
    files: SqlFileStore
    batches: SqlBatchStore
    results: SqlResultStore
    trials: SqlTrialStore
    ticks: SqlTickStore
    keys: SqlKeyStore
    idempotency: SqlIdempotencyStore
    blobs: LocalBlobs
    clock: Clock


def open_stores(settings: Settings) -> Stores:
    """Open the database and the blobs."""
    engine = open_engine(settings.database_url)
    deployment = SqlDeployment(engine)
    return Stores(
        engine=engine,
        deployment=deployment,
        files=SqlFileStore(engine),
        batches=SqlBatchStore(engine),
        results=SqlResultStore(engine),
        trials=SqlTrialStore(engine),
        ticks=SqlTickStore(engine),
        keys=SqlKeyStore(engine),
        idempotency=SqlIdempotencyStore(engine),
        blobs=LocalBlobs(settings.storage_folder, lambda: deployment.storage),
        clock=SystemClock(),
    )


def drop_abandoned(blobs: LocalBlobs) -> None:
    """Delete blobs left half written by dead processes of this host; after a fault, a later start tries again."""
    try:
        found = blobs.drop_abandoned()
    except (Unavailable, StorageFull) as fault:
        log.warning("storage.not_cleared", error=str(fault))
        return
    if found:
        log.info("storage.cleared", blobs=found)


def open_redis(settings: Settings, deployment: str) -> KeySpaceRedis:
    """Open a client of the broker for data other than messages, limited to the keys of this deployment."""
    return open_client(settings.broker, _REDIS_TIMEOUT_S, key_prefix(deployment))


def open_bare_redis(settings: Settings) -> KeySpaceRedis:
    """Open a client of the broker to see whether the broker takes a key, of no deployment."""
    return open_client(settings.broker, _LOOK_TIMEOUT_S, EVERY_KEY)


def deployment_of(settings: Settings) -> str:
    """Return the id of the deployment, from its database; Unavailable."""
    return _deployment_at(settings.database_url)


@cache
def _deployment_at(database_url: str) -> str:
    engine = open_engine(database_url)
    try:
        return SqlDeployment(engine).id
    finally:
        engine.dispose()
