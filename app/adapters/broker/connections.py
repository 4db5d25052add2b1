"""Opens every connection to the broker, for Celery and for the project's own clients."""

import socket
from collections.abc import Mapping
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from app.adapters.broker.key_space import KeySpaceRedis
from app.domain.broker_address import BrokerAddress, Kind

# The beginning of every key, whichever the deployment: a user of the broker may be limited to these keys.
EVERY_KEY = "wylon:"
CONNECT_S = 4.0
# The kernel notices a vanished peer within half a minute: the peer is silent for 10 s and three probes stay unanswered,
# or data stays unacknowledged.
KEEPALIVE = {
    name: value
    for name, value in (
        (getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCPKEEPALIVE", None)), 10),
        (getattr(socket, "TCP_KEEPINTVL", None), 5),
        (getattr(socket, "TCP_KEEPCNT", None), 3),
        (getattr(socket, "TCP_USER_TIMEOUT", None), 30_000),
    )
    if name is not None
}


# The class has no type hints.
_Sentinel: Any = Sentinel


class _LeavesReplica:
    """Closes the connection to a server that became read-only in a fail-over; the next connection finds the primary."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ReadOnlyError as fault:
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError("its server is a replica that only reads: it may have failed over") from fault


class PlainConnection(_LeavesReplica, redis.Connection):
    """A connection over TCP."""


class TlsConnection(_LeavesReplica, redis.SSLConnection):
    """A connection over TLS."""


class Sentinels(_Sentinel):  # type: ignore[misc]
    """The Sentinels that know the primary; where none names it, the fault has each Sentinel's reason in a few words."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary, from the first Sentinel that sees it."""
        reasons = []
        for sentinel in self.sentinels:
            try:
                state = sentinel.sentinel_masters().get(service_name)
            except redis.RedisError as fault:
                reason = str(fault)
            else:
                if state and self.check_master_state(state, service_name):
                    return state["ip"], state["port"]
                reason = "sees no primary of it" if state else "knows no such name"
            at = sentinel.connection_pool.connection_kwargs
            reasons.append(f"Sentinel {at['host']}:{at['port']}: {reason}")
        raise MasterNotFoundError("; ".join(reasons))


def socket_options(address: BrokerAddress) -> dict[str, Any]:
    """Return redis-py's options that keep a connection alive; none for a Unix socket."""
    if address.kind is Kind.SOCKET:
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}


def open_client(address: BrokerAddress, timeout_s: float, prefix: str = "") -> KeySpaceRedis:
    """Open a client for everything but messages.

    Args:
        address: of the broker.
        timeout_s: bounds the wait for each answer.
        prefix: of every key.
    """
    return KeySpaceRedis(connection_pool=_open_pool(address, timeout_s), global_keyprefix=prefix)


def _open_pool(address: BrokerAddress, timeout_s: float) -> redis.ConnectionPool:
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_S,
        **socket_options(address),
    }
    tls: Any = address.tls or {}
    if address.kind is Kind.SOCKET:
        options.pop("socket_connect_timeout")
        return redis.ConnectionPool(connection_class=redis.UnixDomainSocketConnection, path=address.path, **options)
    if address.kind is Kind.SENTINEL:
        # Sentinels have users of their own, and no numbered databases.
        if tls:
            options["ssl"] = True
        sentinels = Sentinels(
            list(address.servers), sentinel_kwargs=_sentinel_options(address, timeout_s), **options, **tls
        )
        pool: redis.ConnectionPool = sentinels.master_for(address.master_name).connection_pool
        return pool
    host, port = address.servers[0]
    connection_class = TlsConnection if address.kind is Kind.TLS else PlainConnection
    return redis.ConnectionPool(connection_class=connection_class, host=host, port=port, **options, **tls)


def celery_options(address: BrokerAddress, *, timeout_s: float, prefix: str = "", **more: Any) -> dict[str, Any]:
    """Return the configuration for a Celery application that uses the broker for messages and results.

    Args:
        address: of the broker.
        timeout_s: bounds the wait for each answer.
        prefix: of every key.
        more: further options of the transport.
    """
    own_keys = {"global_keyprefix": prefix} if prefix else {}
    by_sentinels = {}
    if address.kind is Kind.SENTINEL:
        by_sentinels = {
            "master_name": address.master_name,
            "sentinel_kwargs": _sentinel_options(address, timeout_s),
        }
    tls = dict(address.tls) if address.tls is not None else None
    # Without time limits a publish on a dead connection waits for ever.
    sockets = {"socket_timeout": timeout_s, "socket_connect_timeout": CONNECT_S, **socket_options(address)}
    return {
        "broker_url": address.url,
        "broker_use_ssl": tls,
        "broker_transport_options": {**more, **sockets, **by_sentinels, **own_keys},
        "result_backend": address.url,
        "redis_backend_use_ssl": tls,
        "result_backend_transport_options": {**by_sentinels, **own_keys},
        "redis_socket_timeout": timeout_s,
        "redis_socket_connect_timeout": CONNECT_S,
        # None for a Unix socket: its client refuses the option.
        "redis_socket_keepalive": True if socket_options(address) else None,
    }


def _sentinel_options(address: BrokerAddress, timeout_s: float) -> dict[str, Any]:
    """Return the options for connections to the Sentinels themselves."""
    tls: Mapping[str, object] = {**address.tls, "ssl": True} if address.tls is not None else {}
    # No retry: the next Sentinel is asked instead.
    own = {"retry": Retry(NoBackoff(), 0), "socket_timeout": timeout_s, "socket_connect_timeout": CONNECT_S}
    return {**own, **socket_options(address), **tls, **address.sentinel_options}


def key_prefix(deployment: str) -> str:
    """Return the prefix of a deployment's keys and queues; several deployments may share a Redis database."""
    return f"{EVERY_KEY}{deployment}:"
