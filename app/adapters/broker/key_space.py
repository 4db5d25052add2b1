"""A Redis client that prefixes every key, so that several deployments may share a database.

Callers never name the prefix and can't forget it. An unknown command is refused: the command might name a key.
"""

from collections.abc import Sequence
from typing import Any

import redis
import structlog
from kombu.transport.redis import GlobalKeyPrefixMixin, PrefixedRedisPubSub
from redis.client import Pipeline
from redis.exceptions import ResponseError

log = structlog.get_logger()

_SHOWN_KEYS = 5

_HASH = ("HDEL", "HGET", "HGETALL", "HINCRBY", "HLEN", "HMGET", "HSET")
_LIST = ("LLEN", "LPUSH", "LRANGE", "LREM", "RPOP", "RPUSH")
_SET = ("SADD", "SCARD", "SISMEMBER", "SMEMBERS", "SREM")
_SORTED_SET = ("ZADD", "ZCARD", "ZRANGE", "ZRANGEBYSCORE", "ZREM", "ZREVRANGEBYSCORE", "ZSCORE")
_STRING = ("GET", "INCR", "INCRBY", "SETEX")
_ANY = ("DUMP", "EXPIRE", "PERSIST", "PEXPIRE", "PTTL", "PUBLISH", "SET", "TTL", "TYPE")
_ONE_KEY = frozenset((*_HASH, *_LIST, *_SET, *_SORTED_SET, *_STRING, *_ANY))
_ALL_KEYS = frozenset({"DEL", "EXISTS", "MGET", "UNLINK", "WATCH"})
_NO_KEY = frozenset(
    {"CLIENT", "CONFIG", "DBSIZE", "DISCARD", "EXEC", "FLUSHALL", "FLUSHDB", "INFO", "MULTI", "PING", "TIME", "UNWATCH"}
    | {"SCRIPT EXISTS", "SCRIPT LOAD"}
)


class _KeySpace(GlobalKeyPrefixMixin):
    """Puts the prefix before every outgoing key, and takes the prefix off every returned key."""

    global_keyprefix: str

    def _prefix_args(self, args: Sequence[Any]) -> list[Any]:
        command, *rest = args
        if not self.global_keyprefix or command in _NO_KEY:
            return [command, *rest]
        if command in _ONE_KEY:
            return [command, self._own(rest[0]), *rest[1:]]
        if command in _ALL_KEYS:
            return [command, *map(self._own, rest)]
        if command == "BRPOP":
            return [command, *map(self._own, rest[:-1]), rest[-1]]
        if command in ("EVALSHA", "EVAL"):
            end = 2 + int(rest[1])
            return [command, *rest[:2], *map(self._own, rest[2:end]), *rest[end:]]
        if command == "KEYS":
            return [command, self._own(rest[0])]
        if command == "SCAN":
            word = next((word for word in ("MATCH", b"MATCH") if word in rest), None)
            if word is None:
                return [command, *rest, "MATCH", self._own("*")]
            at = rest.index(word) + 1
            return [command, *rest[:at], self._own(rest[at]), *rest[at + 1 :]]
        # Without the prefix the command might touch another deployment's keys.
        raise ValueError(f"{command} is not sent: add it to this module, with the places of its keys.")

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)
        except ResponseError as fault:
            keys = self._keys(args)
            if not keys or not _is_of_wrong_type(fault):
                raise
            # Every key here is the project's own: a value of the wrong type is garbage, and would block the key for
            # ever.
            log.warning("broker.garbage_dropped", keys=[ascii(key) for key in keys[:_SHOWN_KEYS]])
            super().execute_command("DEL", *keys)
            return super().execute_command(*args, **options)

    def _keys(self, args: Sequence[Any]) -> list[Any]:
        return [args[1]] if args[0] in _ONE_KEY else []

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        answer = super().parse_response(connection, command_name, **options)
        if command_name == "SCAN" and answer:
            cursor, keys = answer
            return cursor, self._without_prefix(keys)
        return self._without_prefix(answer) if command_name == "KEYS" else answer

    def _without_prefix(self, keys: Sequence[Any]) -> list[Any]:
        return [key[len(self.global_keyprefix) :] for key in keys]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        client: Any = self
        return KeySpacePipeline(
            client.connection_pool,
            client.response_callbacks,
            transaction,
            shard_hint,
            global_keyprefix=self.global_keyprefix,
        )

    def _own(self, key: Any) -> Any:
        if isinstance(key, bytes):
            return self.global_keyprefix.encode() + key
        return f"{self.global_keyprefix}{key}"


def _is_of_wrong_type(fault: ResponseError) -> bool:
    return "WRONGTYPE" in str(fault)


class KeySpaceRedis(_KeySpace, redis.Redis):
    """redis-py's client with a prefix on every key; with an empty prefix, the plain client."""

    def __init__(self, *args: Any, global_keyprefix: str = "", **options: Any) -> None:
        self.global_keyprefix = global_keyprefix
        super().__init__(*args, **options)

    def pubsub(self, **options: Any) -> Any:
        return PrefixedRedisPubSub(self.connection_pool, global_keyprefix=self.global_keyprefix, **options)


class KeySpacePipeline(_KeySpace, Pipeline):
    """redis-py's pipeline with a prefix on every key."""

    def __init__(self, *args: Any, global_keyprefix: str = "", **options: Any) -> None:
        self.global_keyprefix = global_keyprefix
        super().__init__(*args, **options)

    def execute(self, raise_on_error: bool = True) -> Any:
        commands = list(self.command_stack)
        answers = super().execute(raise_on_error=False)
        for at, (args, options) in enumerate(commands):
            if isinstance(answers[at], ResponseError) and _is_of_wrong_type(answers[at]):
                answers[at] = self._execute_again(args, options)
        if raise_on_error:
            pipeline: Any = self
            pipeline.raise_first_error(commands, answers)
        return answers

    def _execute_again(self, args: Sequence[Any], options: Any) -> Any:
        """Execute a command that met a value of another type, once the value is deleted.

        The other commands of the pipeline have been executed, also those of a transaction.
        """
        # The keys already have the prefix.
        client = KeySpaceRedis(connection_pool=self.connection_pool)
        try:
            return client.execute_command(*args, **options)
        except ResponseError as fault:
            return fault
