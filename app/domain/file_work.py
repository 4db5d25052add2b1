"""The next file to check or write: fair by tenant, small files before large ones, and no file waits for ever."""

from bisect import insort
from collections import deque
from collections.abc import Hashable
from itertools import count
from typing import Generic, NamedTuple, TypeVar

from app.domain.limits import MIB

# Work up to this size takes a fraction of a second. Larger work leaves a turn to small work, and pauses for small work.
SMALL_BYTES = 8 * MIB
# Smaller work goes first, but only if it came at most a second later for each MiB of the difference in size.
_BYTES_PER_S = MIB
# The cost of the smallest work: rows, blobs, commits.
_LEAST_BYTES = MIB // 4


K = TypeVar("K", bound=Hashable)


class Work(NamedTuple):
    """A file to check or to write."""

    tenant_id: str
    # Bytes to process, as far as they are known beforehand.
    size: int
    # The input to process. Work on a common input runs one after the other: the second uses the first's findings.
    input_blob: str | None = None
    # The files of a batch whose lines are done: a caller waits for finished work, so writing goes before checking.
    is_write: bool = False

    @property
    def is_small(self) -> bool:
        """Whether the work takes no more than a moment."""
        return self.size <= SMALL_BYTES


class _Waiting(NamedTuple, Generic[K]):
    due_at: float
    # Order of arrival.
    number: int
    key: K
    work: Work


class FileOrder(Generic[K]):
    """Waiting and running work, by key.

    Args:
        at_once: how much work runs side by side.
        large_checks: how many large inputs are checked side by side.
        large_writes: how many batches with large files are written side by side.
    """

    def __init__(self, at_once: int, large_checks: int, large_writes: int) -> None:
        self._at_once = at_once
        self._large_checks = large_checks
        self._large_writes = large_writes
        self._numbers = count()
        self._known: set[K] = set()
        self._running: dict[K, Work] = {}
        # The waiting work of each tenant, the nearest deadline first.
        self._waiting: dict[str, list[_Waiting[K]]] = {}
        # By input with waiting or running work: further work on this input, which waits for the work before it.
        self._behind: dict[str, deque[_Waiting[K]]] = {}
        # Bytes begun, by tenant with work here. A new tenant starts from the lowest count of these tenants.
        self._begun: dict[str, float] = {}

    def add(self, key: K, work: Work, now: float) -> None:
        """Add waiting work; work that already waits or runs keeps its place."""
        if key in self._known:
            return
        self._known.add(key)
        if work.tenant_id not in self._begun:
            self._begun[work.tenant_id] = min(self._begun.values(), default=0.0)
        waiting = _Waiting(now + work.size / _BYTES_PER_S, next(self._numbers), key, work)
        if work.input_blob is None:
            self._put(waiting)
        elif (behind := self._behind.get(work.input_blob)) is not None:
            behind.append(waiting)
        else:
            self._behind[work.input_blob] = deque()
            self._put(waiting)

    def begin(self) -> tuple[K, Work] | None:
        """Take the next work that may run now; None if no work may run."""
        if len(self._running) >= self._at_once:
            return None
        for tenant_id in sorted(self._waiting, key=lambda each: (self._begun[each], self._waiting[each][0])):
            for place, (_, _, key, work) in enumerate(self._waiting[tenant_id]):
                if self._has_turn(work):
                    del self._waiting[tenant_id][place]
                    if not self._waiting[tenant_id]:
                        del self._waiting[tenant_id]
                    self._running[key] = work
                    self._begun[tenant_id] += max(work.size, _LEAST_BYTES)
                    return key, work
        return None

    def end(self, key: K) -> None:
        """Note that work has ended, well or not."""
        self._known.remove(key)
        work = self._running.pop(key)
        if work.input_blob is not None:
            if behind := self._behind[work.input_blob]:
                self._put(behind.popleft())
            else:
                del self._behind[work.input_blob]
        tenant_id = work.tenant_id
        if tenant_id not in self._waiting and all(each.tenant_id != tenant_id for each in self._running.values()):
            del self._begun[tenant_id]

    def has(self, key: K) -> bool:
        """Return whether the work with this key waits or runs."""
        return key in self._known

    @property
    def tenants(self) -> int:
        """The number of tenants with work here."""
        return len(self._begun)

    def is_urgent_running(self, beside: Work) -> bool:
        """Return whether small work runs, which large work pauses for, or writing, which checking pauses for."""
        return any(each.is_small or (each.is_write and not beside.is_write) for each in self._running.values())

    def _put(self, waiting: _Waiting[K]) -> None:
        insort(self._waiting.setdefault(waiting.work.tenant_id, []), waiting)

    def _has_turn(self, work: Work) -> bool:
        # Writing leaves a turn to checks: a new batch must not wait for hundreds of batches that end.
        if work.is_write and sum(each.is_write for each in self._running.values()) >= self._at_once - 1:
            return False
        if work.is_small:
            return True
        running = sum(not each.is_small and each.is_write is work.is_write for each in self._running.values())
        return running < (self._large_writes if work.is_write else self._large_checks)
