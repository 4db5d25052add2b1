"""The parts that every process needs, each with the check that tells whether it can be used."""

from collections.abc import Callable
from functools import partial

import redis

from app.adapters.db.engine import check_writes
from app.wiring.stores import Stores


def part_checks(stores: Stores, client: redis.Redis) -> dict[str, Callable[[], None]]:
    """Return checks by the names of the parts; a check raises while its part can't be used."""
    return {
        "database": partial(check_writes, stores.engine),
        "broker": partial(_check_broker, client),
        "storage": stores.blobs.check,
    }


def _check_broker(client: redis.Redis) -> None:
    client.ping()
