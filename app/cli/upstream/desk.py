"""The order of service: a number of slots, a queue for the slots, and the time of an answer."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from app.cli.upstream.stats import Stats


class Pace(NamedTuple):
    """The time of an answer, and the number of requests served at once; with `capacity` None, any number."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    capacity: int | None = None
    may_queue: bool = True

    @property
    def is_immediate(self) -> bool:
        """Whether a request without marks is answered at once."""
        return self.latency_s == 0.0 and self.jitter_s == 0.0 and self.capacity is None


class Visit:
    """A request on its way through the desk."""

    __slots__ = ("came_at", "extra_s", "is_over", "serve", "timer")

    def __init__(self, extra_s: float, serve: Callable[[], None]) -> None:
        self.extra_s = extra_s
        # Called when the time of service has passed; the slot stays taken until `Desk.leave`.
        self.serve = serve
        self.timer: asyncio.TimerHandle | None = None
        self.came_at = 0.0
        self.is_over = False


class Desk:
    """Gives slots to requests, first come first served."""

    def __init__(self, pace: Pace, stats: Stats) -> None:
        self._pace = pace
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Visit] = deque()
        # Queued requests of clients that left; skipped at the head of the queue.
        self._gone = 0

    @property
    def queued(self) -> int:
        """The number of requests waiting for a slot."""
        return len(self._queue) - self._gone

    def enter(self, visit: Visit) -> bool:
        """Serve or queue the request; False if no slot is free and the pace allows no queue."""
        visit.came_at = time.monotonic()
        if self._has_slot():
            self._begin(visit)
        elif self._pace.may_queue:
            self._queue.append(visit)
        else:
            return False
        return True

    def leave(self, visit: Visit) -> None:
        """End a visit, served or given up; a second call has no effect."""
        if visit.is_over:
            return
        visit.is_over = True
        if visit.timer is None:
            self._gone += 1
            return
        visit.timer.cancel()
        self._stats.service_ended(time.monotonic() - visit.came_at)
        self._fill()

    def _has_slot(self) -> bool:
        return self._pace.capacity is None or self._stats.in_flight < self._pace.capacity

    def _fill(self) -> None:
        while self._queue and self._has_slot():
            visit = self._queue.popleft()
            if visit.is_over:
                self._gone -= 1
            else:
                self._begin(visit)

    def _begin(self, visit: Visit) -> None:
        self._stats.service_began()
        pace = self._pace
        jitter_s = random.random() * pace.jitter_s if pace.jitter_s else 0.0
        visit.timer = self._loop.call_later(pace.latency_s + jitter_s + visit.extra_s, visit.serve)
