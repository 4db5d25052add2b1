"""kombu's transports for Redis, with the connections and key prefixes of every other client."""

from functools import partial
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from app.adapters.broker.connections import PlainConnection, TlsConnection
from app.adapters.broker.key_space import KeySpaceRedis


class Channel(redis.Channel):
    """A channel to a single server."""

    connection_class: Any = PlainConnection
    connection_class_ssl: Any = TlsConnection
    global_keyprefix: str
    keyprefix_binding_deadlines: Any

    def _get_client(self) -> Any:
        return partial(KeySpaceRedis, global_keyprefix=self.global_keyprefix)

    @property
    def _script_binding_deadlines(self) -> Any:
        # `KeySpaceRedis` prefixes each key of a script, kombu's own client only the first.
        return self.keyprefix_binding_deadlines


class Transport(redis.Transport):
    """kombu's transport with `Channel`."""

    Channel = Channel


class SentinelChannel(Channel, redis.SentinelChannel):
    """A channel to the server named by Sentinels."""

    connection_class = redis.SentinelChannel.connection_class
    connection_class_ssl = redis.SentinelChannel.connection_class_ssl


class SentinelTransport(redis.SentinelTransport):
    """kombu's transport with `SentinelChannel`."""

    Channel = SentinelChannel


def use_transports(transport: type[redis.Transport], by_sentinels: type[redis.SentinelTransport]) -> None:
    """Have this process use the two transports for every form of broker address."""
    one = f"{transport.__module__}:{transport.__name__}"
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss", "redis+socket"), one))
    TRANSPORT_ALIASES["sentinel"] = f"{by_sentinels.__module__}:{by_sentinels.__name__}"
