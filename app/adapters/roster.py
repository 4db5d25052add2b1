"""Who is alive, in Redis: everything here may be lost at any moment and is written anew within a second."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import redis

from app.domain import ids
from app.services.ports import REPORT_LIFETIME_S, WorkerState

_PREFIX = "wylon"
_LOSSES = f"{_PREFIX}:losses"
_LOSSES_LIFETIME_S = 3_600
# Longer than the time between two looks for lost tasks, and short enough that a look long ago counts for nothing.
_MISSING_LIFETIME_S = 15
# One command for this many keys: others wait for it.
_KEYS_AT_ONCE = 1_000

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
            pipe.set(_worker_key(state.name), msgspec.json.encode(state), px=int(REPORT_LIFETIME_S * 1_000))
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

    def count_losses(self, batch_id: str, task_numbers: Sequence[int]) -> None:
        key = f"{_LOSSES}:{batch_id}"
        with self._redis.pipeline(transaction=False) as pipe:
            for number in task_numbers:
                pipe.hincrby(key, str(number), 1)
            pipe.expire(key, _LOSSES_LIFETIME_S)
            pipe.execute()

    def losses(self, batch_id: str) -> dict[int, int]:
        counts: Any = self._redis.hgetall(f"{_LOSSES}:{batch_id}")
        return {int(number): int(count) for number, count in counts.items()}

    def batches_with_losses(self) -> set[str]:
        found = self._redis.scan_iter(match=f"{_LOSSES}:*", count=1_000)
        return {str(key, "utf-8").removeprefix(f"{_LOSSES}:") for key in found}

    def forget_losses(self, batch_id: str) -> None:
        self._redis.delete(f"{_LOSSES}:{batch_id}")

    def lost_tasks(self, missing: Mapping[str, Collection[int]], after_s: float) -> dict[str, list[int]]:
        keys = {batch_id: f"{_PREFIX}:missing:{batch_id}" for batch_id in missing}
        whole = [keys[batch_id] for batch_id, numbers in missing.items() if not numbers]
        lacking = {batch_id: numbers for batch_id, numbers in missing.items() if numbers}
        for start in range(0, len(whole), _KEYS_AT_ONCE):
            self._redis.delete(*whole[start : start + _KEYS_AT_ONCE])
        if not lacking:
            return {}
        seconds, microseconds = self._redis.time()
        now = seconds + microseconds / 1_000_000
        before = self._redis.mget([keys[batch_id] for batch_id in lacking])
        lost: dict[str, list[int]] = {}
        with self._redis.pipeline(transaction=False) as pipe:
            for (batch_id, numbers), seen in zip(lacking.items(), before, strict=True):
                known = msgspec.json.decode(seen, type=dict[int, float]) if seen else {}
                # A clock that was set back would have them seen in the future, and never lost.
                since = {number: min(known.get(number, now), now) for number in numbers}
                if late := sorted(number for number, seen_at in since.items() if now - seen_at >= after_s):
                    lost[batch_id] = late
                waiting = {number: seen_at for number, seen_at in since.items() if now - seen_at < after_s}
                pipe.set(keys[batch_id], msgspec.json.encode(waiting), ex=_MISSING_LIFETIME_S)
            pipe.execute()
        return lost

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
