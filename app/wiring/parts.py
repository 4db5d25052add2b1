"""The parts that every process needs, each with a check of whether the part can be used."""

from collections.abc import Callable
from functools import partial

import redis

from app.adapters.broker.check import check_writes as check_broker_writes
from app.adapters.broker.faults import explain_broker_fault, is_lasting
from app.adapters.db.engine import check_writes
from app.config import Settings
from app.domain.broker_address import BrokerAddress
from app.domain.errors import SettingInvalid, Unavailable
from app.wiring.stores import Stores


def part_checks(settings: Settings, stores: Stores, client: redis.Redis) -> dict[str, Callable[[], None]]:
    """Return checks by part name; a check raises while its part can't be used."""
    return {
        "database": partial(check_writes, stores.engine),
        "broker": partial(check_broker, settings.broker, client),
        "storage": stores.blobs.check,
    }


def check_broker(address: BrokerAddress, client: redis.Redis) -> None:
    """Raise if the broker takes no write; SettingInvalid if waiting can't help."""
    try:
        check_broker_writes(client)
    except (redis.RedisError, OSError) as fault:
        told = explain_broker_fault(fault, address)
        raise (SettingInvalid if is_lasting(fault) else Unavailable)(told) from fault
