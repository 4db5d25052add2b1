"""The live workers, in Redis. The data may be lost at any moment; reports are written anew within a second.

Nothing depends on Redis' clock: a reader measures by the reader's own clock how long a value stays unchanged. A
lifetime in Redis only clears the key away, and may end at any time.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import msgspec
import redis

from app.domain import ids
from app.domain.watch import Watch
from app.services.ports import REPORT_LIFETIME_S, WorkerState

_Kind = TypeVar("_Kind")

_PREFIX = "wylon"
_LOSSES = f"{_PREFIX}:losses"
_MISSING = f"{_PREFIX}:missing"
_LOSSES_LIFETIME_S = 3_600
_MISSING_LIFETIME_S = 3_600
# The most keys in one command: other clients wait for the command.
_KEYS_AT_ONCE = 1_000
# The longest time counted between two looks at a report or a lock: a paused reader has seen nothing meanwhile.
_LONGEST_GAP_S = 3.0
# Separates the count of a worker's reports from the report itself.
_COUNT_END = b"|"

# Deletes a key only while the key still has the value.
_DELETE_IF = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
# Replaces the value of a key only while the key has the old value.
_REPLACE_IF = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('set', KEYS[1], ARGV[2]) return 1 end return 0"


class RedisRoster:
    """`Roster` on Redis."""

    def __init__(self, client: redis.Redis, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._monotonic = monotonic
        self._delete_if = client.register_script(_DELETE_IF)
        self._replace_if = client.register_script(_REPLACE_IF)
        # Tells the reports of this process from one another, and from reports of another process with the same name.
        self._life, self._reports = ids.new_token(), 0
        self._heard: Watch[str, bytes] = Watch(_LONGEST_GAP_S)
        self._locks: Watch[str, bytes] = Watch(_LONGEST_GAP_S)

    def report(self, state: WorkerState) -> None:
        self._reports += 1
        count = f"{self._life}.{self._reports}".encode()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(f"{_PREFIX}:workers", state.name)
            pipe.set(_worker_key(state.name), count + _COUNT_END + msgspec.json.encode(state))
            pipe.execute()

    def leave(self, name: str) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(_worker_key(name))
            pipe.srem(f"{_PREFIX}:workers", name)
            pipe.execute()

    def workers(self) -> list[WorkerState]:
        members = cast("set[bytes]", self._redis.smembers(f"{_PREFIX}:workers"))
        # Garbage among the names has no report, and is removed like a dead worker.
        named = {str(member, "utf-8", "replace"): member for member in members}
        names = sorted(named)
        if not names:
            return []
        reports = cast("list[bytes | None]", self._redis.mget([_worker_key(name) for name in names]))
        states = [_decoded(report.partition(_COUNT_END)[2] if report else None, WorkerState) for report in reports]
        gone = [named[name] for name, state in zip(names, states, strict=True) if state is None]
        if gone:
            self._redis.srem(f"{_PREFIX}:workers", *gone)
        now, alive = self._monotonic(), []
        for name, report, state in zip(names, reports, states, strict=True):
            if report is None or state is None:
                continue
            count = report.partition(_COUNT_END)[0]
            if self._heard.unchanged_s(name, count, now) < REPORT_LIFETIME_S:
                alive.append(state)
            else:
                # Deleted, because a reader new to the report would count the worker as alive. A worker that still runs
                # reports again.
                self._delete_if(keys=[_worker_key(name)], args=[report])
        self._heard.keep(names)
        return alive

    def count_losses(self, batch_id: str, task_numbers: Sequence[int]) -> None:
        key = f"{_LOSSES}:{batch_id}"
        with self._redis.pipeline(transaction=False) as pipe:
            for number in task_numbers:
                pipe.hincrby(key, str(number), 1)
            pipe.expire(key, _LOSSES_LIFETIME_S)
            pipe.execute()

    def losses(self, batch_id: str) -> dict[int, int]:
        counts: Any = self._redis.hgetall(f"{_LOSSES}:{batch_id}")
        return {int(number): int(count) for number, count in counts.items() if number.isdigit() and count.isdigit()}

    def batches_with_losses(self) -> set[str]:
        return {
            str(key, "utf-8").removeprefix(f"{kind}:")
            for kind in (_LOSSES, _MISSING)
            for key in self._redis.scan_iter(match=f"{kind}:*", count=1_000)
        }

    def forget_losses(self, batch_id: str) -> None:
        self._redis.delete(f"{_LOSSES}:{batch_id}", f"{_MISSING}:{batch_id}")

    def missing_since(self, missing: Mapping[str, Collection[int]]) -> dict[str, dict[int, str]]:
        keys = {batch_id: f"{_MISSING}:{batch_id}" for batch_id in missing}
        whole = [keys[batch_id] for batch_id, numbers in missing.items() if not numbers]
        lacking = {batch_id: numbers for batch_id, numbers in missing.items() if numbers}
        for start in range(0, len(whole), _KEYS_AT_ONCE):
            self._redis.delete(*whole[start : start + _KEYS_AT_ONCE])
        if not lacking:
            return {}
        known, look = self._missing(list(lacking)), ids.new_token()
        since = {
            batch_id: {number: known[batch_id].get(number, look) for number in numbers}
            for batch_id, numbers in lacking.items()
        }
        self._keep_missing(since)
        return since

    def not_missing(self, numbers: Mapping[str, Collection[int]]) -> None:
        known = self._missing(list(numbers))
        self._keep_missing(
            {
                batch_id: {number: look for number, look in known[batch_id].items() if number not in found}
                for batch_id, found in numbers.items()
            }
        )

    def _missing(self, batch_ids: Sequence[str]) -> dict[str, dict[int, str]]:
        kept = cast("list[bytes | None]", self._redis.mget([f"{_MISSING}:{batch_id}" for batch_id in batch_ids]))
        return {batch_id: _decoded(seen, dict[int, str]) or {} for batch_id, seen in zip(batch_ids, kept, strict=True)}

    def _keep_missing(self, since: Mapping[str, dict[int, str]]) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            for batch_id, looks in since.items():
                pipe.set(f"{_MISSING}:{batch_id}", msgspec.json.encode(looks), ex=_MISSING_LIFETIME_S)
            pipe.execute()

    def fence(self, batch_ids: Collection[str]) -> None:
        # Without a lifetime: a fence that ended early would let through the messages to keep out.
        with self._redis.pipeline(transaction=False) as pipe:
            for batch_id in batch_ids:
                pipe.set(fence_key(batch_id), ids.new_token())
            pipe.execute()

    def fences(self, batch_ids: Sequence[str]) -> dict[str, str]:
        if not batch_ids:
            return {}
        fences = cast("list[bytes | None]", self._redis.mget([fence_key(batch_id) for batch_id in batch_ids]))
        return {
            batch_id: str(fence or b"", "utf-8", "replace") for batch_id, fence in zip(batch_ids, fences, strict=True)
        }

    def fenced_batches(self) -> set[str]:
        found = self._redis.scan_iter(match=fence_key("*"), count=1_000)
        return {str(key, "utf-8").removeprefix(fence_key("")) for key in found}

    def forget_fences(self, batch_ids: Collection[str]) -> None:
        for batch_id in batch_ids:
            self._redis.delete(fence_key(batch_id))

    @contextmanager
    def lock(self, name: str, seconds: float) -> Iterator[bool]:
        key, token = f"{_PREFIX}:lock:{name}", ids.new_token()
        is_held = bool(self._redis.set(key, token, nx=True)) or self._take_over(key, token, seconds)
        try:
            yield is_held
        finally:
            if is_held:
                self._delete_if(keys=[key], args=[token])

    def _take_over(self, key: str, token: str, seconds: float) -> bool:
        """Take over a lock held unchanged for `seconds`: the holder died, or is stopped."""
        holder = cast("bytes | None", self._redis.get(key))
        if holder is None or self._locks.unchanged_s(key, holder, self._monotonic()) < seconds:
            return False
        return bool(self._replace_if(keys=[key], args=[holder, token]))


def fence_key(batch_id: str) -> str:
    """Return the key of a batch's fence, which the queue compares when tasks are added."""
    return f"{_PREFIX}:fence:{batch_id}"


def _decoded(value: bytes | None, kind: type[_Kind]) -> _Kind | None:
    """Return the decoded value; None for a missing value or garbage."""
    try:
        return None if value is None else msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _worker_key(name: str) -> str:
    return f"{_PREFIX}:worker:{name}"
