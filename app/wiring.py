"""Settings made into stores, clients and services: the only place that builds real things."""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
import structlog
from celery import Celery
from sqlalchemy import Engine

from app.adapters.blobs.local import LocalBlobs
from app.adapters.clock import SystemClock
from app.adapters.db.batch_store import SqlBatchStore
from app.adapters.db.engine import check, open_engine
from app.adapters.db.file_store import SqlFileStore
from app.adapters.db.key_store import SqlIdempotencyStore, SqlKeyStore
from app.adapters.db.migrate import migrate
from app.adapters.db.result_store import SqlResultStore
from app.adapters.queue import CeleryQueue, open_sender
from app.adapters.roster import RedisRoster
from app.adapters.upstream.catalog import HttpCatalog
from app.adapters.upstream.client import HttpUpstream
from app.config import Settings
from app.services.batches import BatchService
from app.services.dispatch import DispatchService
from app.services.execution import ExecutionService
from app.services.files import FileService
from app.services.finalization import FinalizationService
from app.services.keys import KeyService
from app.services.ports import Clock
from app.services.upkeep import UpkeepService
from app.services.validation import ValidationService

_REDIS_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Stores:
    """Everything that keeps state, opened once a process."""

    engine: Engine
    files: SqlFileStore
    batches: SqlBatchStore
    results: SqlResultStore
    keys: SqlKeyStore
    idempotency: SqlIdempotencyStore
    blobs: LocalBlobs
    clock: Clock


def open_stores(settings: Settings) -> Stores:
    """Open the database and the blobs."""
    engine = open_engine(settings.database_url)
    return Stores(
        engine=engine,
        files=SqlFileStore(engine),
        batches=SqlBatchStore(engine),
        results=SqlResultStore(engine),
        keys=SqlKeyStore(engine),
        idempotency=SqlIdempotencyStore(engine),
        blobs=LocalBlobs(Path(urlsplit(settings.storage_url).path)),
        clock=SystemClock(),
    )


def open_redis(settings: Settings) -> redis.Redis:
    """Open a client of the broker for what is not a message."""
    return redis.Redis.from_url(
        settings.redis_url, socket_timeout=_REDIS_TIMEOUT_S, socket_connect_timeout=_REDIS_TIMEOUT_S
    )


def prepare(settings: Settings) -> None:
    """Bring the database to the newest schema and make the folders that are missing."""
    settings.data.mkdir(parents=True, exist_ok=True)
    engine = open_engine(settings.database_url)
    try:
        migrate(engine)
    finally:
        engine.dispose()


def ensure_key(settings: Settings, key: str) -> None:
    """Make sure that this API key is let in."""
    stores = open_stores(settings)
    try:
        KeyService(stores.keys, stores.clock).ensure(key)
    finally:
        stores.engine.dispose()


@dataclass(frozen=True)
class Web:
    """What the API serves from."""

    files: FileService
    batches: BatchService
    keys: KeyService
    catalog: HttpCatalog
    readiness: Mapping[str, Callable[[], None]]


def build_api(settings: Settings) -> Web:
    """Build the services of a web process."""
    stores = open_stores(settings)
    client = open_redis(settings)
    queue = CeleryQueue(open_sender(settings.broker_url), client)
    return Web(
        files=FileService(stores.files, stores.blobs, stores.clock, stores.idempotency),
        batches=BatchService(
            stores.batches,
            stores.files,
            queue,
            stores.clock,
            stores.idempotency,
            endpoints=settings.endpoints,
            windows=settings.completion_windows,
        ),
        keys=KeyService(stores.keys, stores.clock),
        catalog=HttpCatalog(settings.upstream_url, settings.upstream_api_key),
        readiness={"database": partial(check, stores.engine), "broker": lambda: _check_broker(client)},
    )


def _check_broker(client: redis.Redis) -> None:
    client.ping()


@dataclass(frozen=True)
class Control:
    """What the control process does."""

    validation: ValidationService
    dispatch: DispatchService
    finalization: FinalizationService
    upkeep: UpkeepService


def build_control(settings: Settings, celery: Celery) -> Control:
    """Build the services of the control process."""
    stores = open_stores(settings)
    client = open_redis(settings)
    queue, roster = CeleryQueue(celery, client), RedisRoster(client)
    dispatch = DispatchService(stores.batches, queue, roster)
    return Control(
        validation=ValidationService(
            stores.batches,
            stores.files,
            stores.blobs,
            stores.clock,
            serves=settings.serves,
            pinned_lines_per_task=settings.lines_per_task,
        ),
        dispatch=dispatch,
        finalization=FinalizationService(stores.batches, stores.results, stores.blobs, queue, stores.clock),
        upkeep=UpkeepService(
            stores.batches,
            stores.results,
            stores.files,
            stores.idempotency,
            stores.blobs,
            queue,
            roster,
            stores.clock,
            dispatch,
            cancel_grace_s=settings.cancel_grace_s,
            finalize_max_tries=settings.finalize_max_tries,
        ),
    )


@dataclass(frozen=True)
class Lines:
    """What a worker process runs lines with."""

    stores: Stores
    queue: CeleryQueue
    roster: RedisRoster
    upstream: HttpUpstream
    execution: ExecutionService


def build_lines(settings: Settings, celery: Celery) -> Lines:
    """Build what a worker process runs lines with."""
    stores = open_stores(settings)
    client = open_redis(settings)
    upstream = HttpUpstream(
        settings.upstream_url,
        api_key=settings.upstream_api_key,
        connect_timeout_s=settings.connect_timeout_s,
        first_byte_timeout_s=settings.first_byte_timeout_s,
    )
    return Lines(
        stores=stores,
        queue=CeleryQueue(celery, client),
        roster=RedisRoster(client),
        upstream=upstream,
        execution=ExecutionService(
            upstream, stores.clock, settings.retry_policy, call_timeout_s=settings.call_timeout_s
        ),
    )


def set_up_logs(settings: Settings) -> None:
    """Send structured logs, ours and the libraries', to standard error as lines of `event key=value`."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
