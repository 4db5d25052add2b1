"""The state and the faults of a deployment, part by part: a part that is away does not hide the others."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from app.adapters.broker.check import check_eviction
from app.adapters.db.schema import check_schema
from app.adapters.roster import RedisRoster
from app.config import Settings
from app.domain.errors import Unavailable
from app.services.ports import WorkerState
from app.services.sharing import Look, SharingService
from app.services.upstream_check import ServerCheck
from app.wiring.catalog import build_upstream_check
from app.wiring.parts import part_checks
from app.wiring.readiness import Readiness
from app.wiring.sharing import weights_of
from app.wiring.stores import Stores, deployment_of, open_bare_redis, open_redis, open_stores
from app.wiring.tick_watch import check_ticks

T = TypeVar("T")

_UPSTREAM_PATIENCE_S = 5.0
_PATIENCE_S = 15.0


@dataclass(frozen=True)
class Status:
    """A look at a deployment; None stands for unreadable facts."""

    # The fault of a part by name, None if the part works.
    parts: Mapping[str, str | None]
    upstreams: list[ServerCheck] | None
    workers: list[WorkerState] | None
    # Number of unfinished batches, by status.
    batches: Mapping[str, int] | None
    look: Look | None


def look_at(settings: Settings, *, asks_upstreams: bool = True) -> Status:
    """Look at the parts in parallel; every look has a time limit."""
    stores, deployment = open_stores(settings), _deployment_of(settings)
    client = open_bare_redis(settings) if deployment is None else open_redis(settings, deployment)
    roster = RedisRoster(client)
    sharing = SharingService(stores.batches, roster, stores.clock, weights_of(settings), settings.upstream_names)
    checks = part_checks(settings, stores, client) | {
        "schema": lambda: check_schema(stores.engine),
        "eviction": lambda: check_eviction(client),
        "ticks": lambda: check_ticks(stores.ticks),
    }
    try:
        with ThreadPoolExecutor() as threads:
            upstreams = threads.submit(_or_none, lambda: _ask_upstreams(settings) if asks_upstreams else None)
            workers = threads.submit(_or_none, lambda: None if deployment is None else roster.workers())
            batches = threads.submit(_or_none, lambda: _count_active(stores))
            look = threads.submit(_or_none, sharing.look)
            # A network share whose server is gone blocks a look for as long as the server is away.
            faults = Readiness(_PATIENCE_S).failing(checks)
            return Status(
                {name: faults.get(name) for name in checks},
                upstreams.result(),
                workers.result(),
                batches.result(),
                look.result(),
            )
    finally:
        client.close()
        stores.engine.dispose()


def _deployment_of(settings: Settings) -> str | None:
    """Return the deployment's id, the prefix of keys in the broker; None if the database does not answer."""
    try:
        return deployment_of(settings)
    except Unavailable:
        return None


def _ask_upstreams(settings: Settings) -> list[ServerCheck]:
    check = build_upstream_check(settings, _UPSTREAM_PATIENCE_S, may_stop_at_list=True)
    return asyncio.run(check.check(settings.upstreams))


def _count_active(stores: Stores) -> dict[str, int]:
    return {status.value: count for status, count in stores.batches.count_active().items()}


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Exception:
        # The check of the part tells the reason.
        return None
