"""Checks whether the broker accepts writes, and whether it keeps the data."""

import redis

from app.domain import ids
from app.domain.errors import Unavailable

_PROBE_LIFETIME_MS = 10_000
_KEEPS_ALL = "noeviction"


def check_writes(client: redis.Redis) -> None:
    """Raise where the broker refuses a write: the broker is away, full or a replica, or its disk is full."""
    key = f"probe:{ids.new_token()}"
    client.set(key, 1, px=_PROBE_LIFETIME_MS)
    client.delete(key)


def explain_eviction(client: redis.Redis) -> str | None:
    """Return how the broker may evict data, with the cure; None where it keeps everything or does not say."""
    try:
        memory = client.info("memory")
    except (redis.RedisError, OSError):
        # The user may lack the permission for INFO; accepting writes matters more.
        return None
    policy = str(memory.get("maxmemory_policy", _KEEPS_ALL))
    if policy == _KEEPS_ALL or not int(memory.get("maxmemory", 0) or 0):
        return None
    return (
        f"the broker drops messages once it is full, by its maxmemory-policy {policy}: set maxmemory-policy noeviction"
    )


def check_eviction(client: redis.Redis) -> None:
    """Raise Unavailable where the broker may evict data."""
    if (reason := explain_eviction(client)) is not None:
        raise Unavailable(reason)
