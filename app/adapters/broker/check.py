"""Whether the broker takes writes, and whether it keeps what it takes."""

import redis
import structlog

from app.domain import ids

log = structlog.get_logger()

_PROBE_LIFETIME_MS = 10_000
_KEEPS_ALL = "noeviction"


def check_writes(client: redis.Redis) -> None:
    """Raise where the broker does not take a write: it is away, full, a replica, or its disk is."""
    key = f"probe:{ids.new_token()}"
    client.set(key, 1, px=_PROBE_LIFETIME_MS)
    client.delete(key)


def warn_of_eviction(client: redis.Redis) -> None:
    """Say in the log where the broker may drop what it holds."""
    try:
        memory = client.info("memory")
    except redis.RedisError:
        # A user that may not ask; what matters is that the broker takes writes.
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
