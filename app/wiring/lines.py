"""What a worker process runs lines with."""

from dataclasses import dataclass

from celery import Celery

from app.adapters.queue import CeleryQueue
from app.adapters.roster import RedisRoster
from app.adapters.upstream.client import HttpUpstream
from app.config import Settings
from app.services.execution import ExecutionService
from app.wiring.stores import Stores, open_redis, open_stores


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
