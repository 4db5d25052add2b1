"""Check whether the processes of a deployment are up."""

import http.client
import socket
from collections.abc import Callable
from contextlib import suppress

import redis

from app.adapters.roster import RedisRoster
from app.config import Settings
from app.wiring.stores import deployment_of, open_bare_redis, open_redis

_LOOK_TIMEOUT_S = 0.5
# Wildcard addresses to listen on, and the loopback address to reach the server by.
_ANY = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


def is_broker_up(settings: Settings) -> bool:
    """Return whether the broker answers."""
    client = open_bare_redis(settings)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def is_web_up(host: str, port: int) -> bool:
    """Return whether the API answers."""
    connection = http.client.HTTPConnection(_ANY.get(host, host), port, timeout=_LOOK_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def missing_workers(settings: Settings) -> set[str]:
    """Return the names of the workers on this machine without a report."""
    wanted = {f"worker-{number}@{socket.gethostname()}" for number in range(1, settings.workers + 1)}
    client = open_redis(settings, deployment_of(settings))
    with suppress(redis.RedisError, OSError):
        wanted -= {worker.name for worker in RedisRoster(client).workers()}
    client.close()
    return wanted


def pending(settings: Settings) -> Callable[[], str | None]:
    """Return a check that names a process not up yet, or None if every process is up; web is asked until it answers."""
    is_serving = False

    def look() -> str | None:
        nonlocal is_serving
        is_serving = is_serving or is_web_up(settings.host, settings.port)
        if not is_serving:
            return "web"
        missing = sorted(missing_workers(settings))
        return missing[0].partition("@")[0] if missing else None

    return look
