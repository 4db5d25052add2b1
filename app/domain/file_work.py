"""Which file is checked or written next: fair by tenant, small ones before large ones, and none waits for ever."""

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from app.domain.limits import MIB

# Work up to this size takes a fraction of a second; larger work leaves it room and makes way for it.
SMALL_BYTES = 8 * MIB
# Work that is smaller goes first, but only as long as it came within a second for each MiB that it is smaller by.
_BYTES_PER_S = MIB
# What the smallest work costs: rows, blobs, commits.
_LEAST_BYTES = MIB // 4


K = TypeVar("K", bound=Hashable)


class Work(NamedTuple):
    """One file to check or to write."""

    tenant_id: str
    # Bytes to go over, as far as they are known before.
    size: int
    # The input to go over; work on the same one goes one after the other, and the second knows what the first found.
    input_blob: str | None = None

    @property
    def is_small(self) -> bool:
        """Whether it takes no more than a moment."""
        return self.size <= SMALL_BYTES


class _Waiting(NamedTuple):
    work: Work
    due_at: float


class FileOrder(Generic[K]):
    """Work that waits and work that runs, by key.

    Args:
        at_once: how much work runs side by side.
        large_at_once: how much of that may be large.
    """

    def __init__(self, at_once: int, large_at_once: int) -> None:
        self._at_once = at_once
        self._large_at_once = large_at_once
        self._waiting: dict[K, _Waiting] = {}
        self._running: dict[K, Work] = {}
        # Bytes begun of each tenant that has work here. One that comes begins with those of who has had the least.
        self._begun: dict[str, float] = {}

    def add(self, key: K, work: Work, now: float) -> None:
        """Have work wait; work that waits or runs keeps its place."""
        if key in self._waiting or key in self._running:
            return
        if work.tenant_id not in self._begun:
            self._begun[work.tenant_id] = min(self._begun.values(), default=0.0)
        self._waiting[key] = _Waiting(work, now + work.size / _BYTES_PER_S)

    def begin(self) -> tuple[K, Work] | None:
        """Take the next work that may run now; None where there is none."""
        if len(self._running) >= self._at_once:
            return None
        may_be_large = sum(not work.is_small for work in self._running.values()) < self._large_at_once
        inputs = {work.input_blob for work in self._running.values()} - {None}
        ready = [
            (self._begun[work.tenant_id], due_at, number, key)
            for number, (key, (work, due_at)) in enumerate(self._waiting.items())
            if (work.is_small or may_be_large) and work.input_blob not in inputs
        ]
        if not ready:
            return None
        *_, key = min(ready, key=lambda each: each[:-1])
        work = self._running[key] = self._waiting.pop(key).work
        self._begun[work.tenant_id] += max(work.size, _LEAST_BYTES)
        return key, work

    def end(self, key: K) -> None:
        """Take in that work has ended, well or not."""
        tenant_id = self._running.pop(key).tenant_id
        left = (*self._running.values(), *(waiting.work for waiting in self._waiting.values()))
        if all(work.tenant_id != tenant_id for work in left):
            del self._begun[tenant_id]

    def has(self, key: K) -> bool:
        """Return whether this work waits or runs."""
        return key in self._waiting or key in self._running

    @property
    def tenants(self) -> int:
        """How many tenants something is kept of: those that have work here."""
        return len(self._begun)

    def is_small_running(self) -> bool:
        """Return whether any work that runs is small."""
        return any(work.is_small for work in self._running.values())
