"""How long a value did not change, as seen by a process: the basis of liveness.

Two processes' clocks need not agree, and may step. So no process writes down an instant for comparison: a live process
changes a value (a heartbeat), and an observer counts the time by the observer's own monotonic clock.
"""

import threading
from collections.abc import Collection, Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Seen(NamedTuple, Generic[V]):
    value: V
    for_s: float
    at: float


class Watch(Generic[K, V]):
    """Counts, by key, how long a value has been unchanged; safe to use from any thread.

    Args:
        longest_gap_s: the most seconds that count between two looks. A process that stood still, perhaps with the whole
            machine, has not seen whether other processes did anything meanwhile.
    """

    def __init__(self, longest_gap_s: float) -> None:
        self._longest_gap_s = longest_gap_s
        self._seen: dict[K, _Seen[V]] = {}
        self._lock = threading.Lock()

    def unchanged_s(self, key: K, value: V, now: float) -> float:
        """Look at a value; return for how many seconds the value has been seen unchanged."""
        with self._lock:
            before = self._seen.get(key)
            for_s = 0.0
            if before is not None and before.value == value:
                for_s = before.for_s + min(max(now - before.at, 0.0), self._longest_gap_s)
            self._seen[key] = _Seen(value, for_s, now)
            return for_s

    def restart(self, key: K) -> None:
        """Start the count anew at the next look."""
        with self._lock:
            self._seen.pop(key, None)

    def keep(self, keys: Collection[K]) -> None:
        """Forget the keys outside `keys`."""
        with self._lock:
            for key in self._seen.keys() - set(keys):
                del self._seen[key]
