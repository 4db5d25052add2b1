"""Builds the services of the ticks and files processes."""

from dataclasses import dataclass
from functools import partial

from celery import Celery

from app.adapters.blobs.parts import is_abandoned, new_part_name
from app.adapters.db.write_ahead_log import shorten_log
from app.adapters.queue import CeleryQueue
from app.adapters.roster import RedisRoster
from app.config import Settings
from app.domain.prefix import MAX_GROUPS_AT_ONCE
from app.services.dispatch import DispatchService
from app.services.finalization import FinalizationService
from app.services.leases import Leases
from app.services.ports import Queue
from app.services.ticks import TickCounter
from app.services.upkeep import UpkeepService
from app.services.validation import ValidationService
from app.wiring.sharing import weights_of
from app.wiring.stores import deployment_of, drop_abandoned, open_redis, open_stores


@dataclass(frozen=True)
class Control:
    """The services of the ticks and files processes, and the queue for their messages."""

    queue: Queue
    leases: Leases
    validation: ValidationService
    dispatch: DispatchService
    finalization: FinalizationService
    upkeep: UpkeepService
    ticks: TickCounter


def build_control(settings: Settings, celery: Celery) -> Control:
    """Build the services of a ticks or files process."""
    stores = open_stores(settings)
    drop_abandoned(stores.blobs)
    client = open_redis(settings, deployment_of(settings))
    upstreams = settings.upstream_names
    queue, roster = CeleryQueue(celery, client, upstreams), RedisRoster(client)
    dispatch = DispatchService(stores.batches, queue, roster, stores.clock, weights_of(settings), upstreams)
    leases = Leases(stores.batches, stores.clock, new_part_name)
    return Control(
        leases=leases,
        ticks=TickCounter(stores.ticks, stores.clock),
        queue=queue,
        validation=ValidationService(
            stores.batches,
            stores.blobs,
            stores.clock,
            leases,
            route=settings.routes.route,
            pinned_lines_per_task=settings.lines_per_task,
            groups_at_once=min(settings.workers * settings.concurrency, MAX_GROUPS_AT_ONCE)
            if settings.prefix_grouping
            else 0,
        ),
        dispatch=dispatch,
        finalization=FinalizationService(
            stores.batches, stores.results, stores.blobs, queue, stores.clock, leases, stores.trials.met
        ),
        upkeep=UpkeepService(
            stores.batches,
            stores.results,
            stores.trials,
            stores.files,
            stores.idempotency,
            stores.blobs,
            queue,
            roster,
            stores.clock,
            dispatch,
            cancel_grace_s=settings.cancel_grace_s,
            finalize_max_tries=settings.finalize_max_tries,
            upstreams=upstreams,
            is_abandoned=is_abandoned,
            shorten_log=partial(shorten_log, stores.engine),
        ),
    )
