"""Builds the services of a web process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.adapters.key_uses import KeyUses
from app.adapters.queue import CeleryQueue, open_sender
from app.config import Settings
from app.services.batches import BatchService
from app.services.files import FileService
from app.services.keys import KeyService
from app.services.ports import ModelCatalog
from app.wiring.catalog import build_catalog
from app.wiring.keys import build_keys
from app.wiring.parts import part_checks
from app.wiring.stores import deployment_of, drop_abandoned, open_redis, open_stores
from app.wiring.tick_watch import TickWatcher


@dataclass(frozen=True)
class Web:
    """The services and settings of the API."""

    files: FileService
    batches: BatchService
    keys: KeyService
    catalog: ModelCatalog
    endpoints: Sequence[str]
    windows: Sequence[str]
    cors_origins: Sequence[str]
    readiness: Mapping[str, Callable[[], None]]
    # Called once, at a normal end of the process.
    stop: Callable[[], None]


def build_api(settings: Settings) -> Web:
    """Build the services of a web process."""
    stores = open_stores(settings)
    drop_abandoned(stores.blobs)
    client = open_redis(settings, deployment_of(settings))
    watcher = TickWatcher(stores.ticks)
    watcher.start()
    uses = KeyUses(stores.keys.note_uses, stores.clock)
    queue = CeleryQueue(open_sender(settings.broker, deployment_of(settings)), client)
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
        keys=build_keys(settings, stores, on_use=uses.note),
        catalog=build_catalog(settings),
        endpoints=settings.endpoints,
        windows=settings.completion_windows,
        cors_origins=settings.cors_origins,
        readiness=part_checks(settings, stores, client) | {"ticks": watcher.check},
        stop=uses.stop,
    )
