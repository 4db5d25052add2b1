"""Counts of finished ticks: a count that stands still tells every process that ticks have stopped.

Only the movement of a count matters: no process compares the clocks of two processes (decision 0026).
"""

import threading
from collections import Counter
from collections.abc import Callable

import structlog

from app.domain.errors import StorageFull, Unavailable
from app.domain.watch import Watch
from app.services.ports import Clock, TickStore

log = structlog.get_logger()

EXPIRE, REFILL, REPAIR = "expire", "refill", "repair"
# A process of files takes no light ticks, and counts the rounds of its loop instead.
FILES = "files"
# The processes at fault if the count stands still.
_KINDS = {
    EXPIRE: "beat or control",
    REFILL: "beat or control",
    REPAIR: "beat or control",
    FILES: "files",
}
# A count without a movement for this long has stopped.
SILENT_S = 30.0
# The processes of a deployment may still be starting, on a machine that is busy with the start.
_FIRST_WITHIN_S = 60.0
# The most that counts between two looks: a watcher sees nothing during its own standstill.
_LONGEST_GAP_S = 5.0
# Counts are written together, at most this often.
_NOTE_EVERY_S = 0.8


class TickCounter:
    """Counts the finished ticks of this process; safe to use from any thread."""

    def __init__(self, store: TickStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: Counter[str] = Counter()
        self._noted_at = float("-inf")

    def count(self, kind: str) -> None:
        """Count a finished tick, and write the counts if a write is due."""
        with self._lock:
            self._pending[kind] += 1
            if self._clock.monotonic() - self._noted_at < _NOTE_EVERY_S:
                return
            self._noted_at = self._clock.monotonic()
            done, self._pending = self._pending, Counter()
        try:
            self._store.note(done, self._clock.now())
        except (StorageFull, Unavailable) as fault:
            # Counts lost for a moment don't matter: the next counts move as well.
            log.warning("tick.not_counted", error=str(fault))


class TickWatch:
    """Finds counts that stand still; each watching process has a TickWatch, and must look every few seconds."""

    def __init__(self, store: TickStore, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._watch: Watch[str, int] = Watch(_LONGEST_GAP_S)
        self._first: dict[str, int] = {}
        self._moved: set[str] = set()

    def silent(self) -> set[str]:
        """Look once; return the kinds whose counts have stood still for too long."""
        try:
            done = self._store.done()
        except Exception:
            # Without the database no tick can be counted. A missing database is a separate fault, and every kind gets
            # the full time again.
            self._watch.keep(())
            raise
        silent = set()
        for kind in _KINDS:
            count = done.get(kind, 0)
            if self._first.setdefault(kind, count) != count:
                self._moved.add(kind)
            limit_s = SILENT_S if kind in self._moved else _FIRST_WITHIN_S
            if self._watch.unchanged_s(kind, count, self._monotonic()) > limit_s:
                silent.add(kind)
        return silent


def watched_at_once() -> set[str]:
    """Return the kinds with counts that move every second or two: a short look is enough."""
    return {EXPIRE, REFILL, FILES}


def explain_silence(kinds: set[str], seconds: float) -> str:
    """Return in words the idle processes, and where to look."""
    at_fault = " and ".join(sorted({_KINDS[kind] for kind in kinds}))
    return (
        f"nothing was done for {seconds:g} s of: {', '.join(sorted(kinds))}. "
        f"Look whether the processes of {at_fault} run, and at their logs"
    )


class ControlClock:
    """`Clock` of a worker: control's time of day, by which windows end.

    A worker's own clock may be off. The worker's view of control's clock is a second or two old, so no call is kept
    back before the end of its window. Before the first view no window has ended: control ends the batch anyway.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._heard: float | None = None
        self._ahead_s = float("-inf")

    def hear(self, clock: float | None) -> None:
        """Take in control's clock as last written; a repeated value is old by now."""
        if clock is not None and clock != self._heard:
            self._heard, self._ahead_s = clock, clock - self._monotonic()

    def now(self) -> float:
        return self._ahead_s + self._monotonic()

    def monotonic(self) -> float:
        return self._monotonic()
