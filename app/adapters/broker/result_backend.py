"""Celery's result backends for Redis, with the connections and key prefixes of every other client."""

from functools import partial
from typing import Any

import redis
from celery.backends.redis import RedisBackend, SentinelBackend

from app.adapters.broker.connections import KEEPALIVE, PlainConnection, TlsConnection
from app.adapters.broker.key_space import KeySpaceRedis

# By the scheme of the address.
RESULT_BACKENDS = {
    "redis": "app.adapters.broker.result_backend:Backend",
    "rediss": "app.adapters.broker.result_backend:Backend",
    "redis+socket": "app.adapters.broker.result_backend:Backend",
    "sentinel": "app.adapters.broker.result_backend:BackendOfSentinels",
}


class _KeySpace:
    """Has the client put the deployment's prefix before each key, including the keys passed to scripts."""

    app: Any

    def _add_global_keyprefix(self) -> None:
        """Add no prefix here: the client does."""

    def _get_client(self) -> Any:
        options = self.app.conf.result_backend_transport_options
        return partial(KeySpaceRedis, global_keyprefix=options.get("global_keyprefix", ""))


class Backend(_KeySpace, RedisBackend):
    """The backend for a single server."""

    def _params_from_url(self, url: str, defaults: dict[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = super()._params_from_url(url, defaults)  # type: ignore[misc]
        given = params.get("connection_class", redis.Connection)
        if issubclass(given, redis.UnixDomainSocketConnection):
            return params
        is_tls = issubclass(given, redis.SSLConnection)
        params["connection_class"] = TlsConnection if is_tls else PlainConnection
        params["socket_keepalive_options"] = KEEPALIVE
        return params


class BackendOfSentinels(_KeySpace, SentinelBackend):
    """The backend for the server named by Sentinels."""

    def _params_from_url(self, url: str, defaults: dict[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = super()._params_from_url(url, defaults)  # type: ignore[misc]
        return {**params, "socket_keepalive_options": KEEPALIVE}

    def _get_pool(self, **params: Any) -> Any:
        # As Celery's method, which would also make the client here.
        sentinels = self._get_sentinel_instance(**params)  # type: ignore[attr-defined]
        credentials = {name: params[name] for name in ("username", "password") if name in params}
        name = self.app.conf.result_backend_transport_options["master_name"]
        return sentinels.master_for(name, **credentials).connection_pool
