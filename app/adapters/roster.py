"""Who is alive, in Redis: everything here may be lost at any moment and is written anew within a second."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import msgspec
import redis

from app.domain import ids
from app.services.ports import WorkerState

_PREFIX = "wylon"
# A worker reports each second; one that has been silent for this long is taken for dead.
_REPORT_LIFETIME_S = 6
# Longer than the time between two looks for lost tasks.
_SUSPECTS_LIFETIME_S = 60

# Deletes the lock only for the one who holds it.
_UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class RedisRoster:
    """`Roster` on Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._unlock = client.register_script(_UNLOCK)

    def report(self, state: WorkerState) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(f"{_PREFIX}:workers", state.name)
            pipe.set(_worker_key(state.name), msgspec.json.encode(state), ex=_REPORT_LIFETIME_S)
            pipe.execute()

    def leave(self, name: str) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(_worker_key(name))
            pipe.srem(f"{_PREFIX}:workers", name)
            pipe.execute()

    def workers(self) -> list[WorkerState]:
        names = sorted(str(name, "utf-8") for name in cast("set[bytes]", self._redis.smembers(f"{_PREFIX}:workers")))
        if not names:
            return []
        reports = self._redis.mget([_worker_key(name) for name in names])
        silent = [name for name, report in zip(names, reports, strict=True) if report is None]
        if silent:
            self._redis.srem(f"{_PREFIX}:workers", *silent)
        return [msgspec.json.decode(report, type=WorkerState) for report in reports if report is not None]

    def swap_suspects(self, batch_id: str, task_numbers: Sequence[int]) -> set[int]:
        key = f"{_PREFIX}:suspects:{batch_id}"
        if not task_numbers:
            self._redis.delete(key)
            return set()
        encoded = msgspec.json.encode(list(task_numbers))
        before = cast("bytes | None", self._redis.set(key, encoded, ex=_SUSPECTS_LIFETIME_S, get=True))
        return set(msgspec.json.decode(before, type=list[int])) if before else set()

    @contextmanager
    def lock(self, name: str, seconds: float) -> Iterator[bool]:
        key, token = f"{_PREFIX}:lock:{name}", ids.new_token()
        is_held = bool(self._redis.set(key, token, nx=True, px=int(seconds * 1_000)))
        try:
            yield is_held
        finally:
            if is_held:
                self._unlock(keys=[key], args=[token])

    def is_first(self, name: str, seconds: float) -> bool:
        return bool(self._redis.set(f"{_PREFIX}:first:{name}", 1, nx=True, px=int(seconds * 1_000)))


def _worker_key(name: str) -> str:
    return f"{_PREFIX}:worker:{name}"
