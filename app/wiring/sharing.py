"""Builds the sharing of the dispatch window, for the control process and for commands that only look."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from app.adapters.broker.faults import explain_broker_fault
from app.adapters.roster import RedisRoster
from app.config import Settings
from app.domain.errors import Unavailable
from app.domain.fairness import Weights
from app.services.sharing import SharingService
from app.wiring.stores import open_redis, open_stores


def weights_of(settings: Settings) -> Weights:
    """Return the weights chosen by the operator."""
    return Weights(settings.tenant_weights, settings.deadline_weight)


@contextmanager
def open_sharing(settings: Settings) -> Iterator[SharingService]:
    """Open database and broker for a look at the sharing of the dispatch window; Unavailable if either is away."""
    stores = open_stores(settings)
    client = open_redis(settings, stores.deployment.id)
    try:
        weights, upstreams = weights_of(settings), settings.upstream_names
        yield SharingService(stores.batches, RedisRoster(client), stores.clock, weights, upstreams)
    except redis.RedisError as fault:
        raise Unavailable(explain_broker_fault(fault, settings.broker)) from fault
    finally:
        client.close()
        stores.engine.dispose()
