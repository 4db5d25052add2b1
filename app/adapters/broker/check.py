"""Checks whether the broker accepts writes, and whether it keeps the data."""

import redis
import structlog

from app.domain import ids

log = structlog.get_logger()

_PROBE_LIFETIME_MS = 10_000
_KEEPS_ALL = "noeviction"


def check_writes(client: redis.Redis) -> None:
    """Raise where the broker refuses a write: the broker is away, full or a replica, or its disk is full."""
    key = f"probe:{ids.new_token()}"
    client.set(key, 1, px=_PROBE_LIFETIME_MS)
    client.delete(key)


def warn_of_eviction(client: redis.Redis) -> None:
    """Log a warning where the broker may evict data."""
    try:
        memory = client.info("memory")
    except redis.RedisError:
        # The user may lack the permission for INFO; accepting writes matters more.
        return
    policy = str(memory.get("maxmemory_policy", _KEEPS_ALL))
    limit = int(memory.get("maxmemory", 0) or 0)
    if policy != _KEEPS_ALL and limit:
        log.warning(
            "broker.may_evict",
            policy=policy,
            maxmemory=limit,
            advice="Set maxmemory-policy to noeviction: what is evicted is sent again, but only seconds later.",
        )
