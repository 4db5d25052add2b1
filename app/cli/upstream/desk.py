"""Who is served when: a number of slots, a queue before them, and how long an answer takes."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from app.cli.upstream.stats import Stats


class Pace(NamedTuple):
    """How long answers take and how many requests are served at once; `capacity` None is any number."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    capacity: int | None = None
    may_queue: bool = True

    @property
    def is_immediate(self) -> bool:
        """Whether a request that asks for nothing special is answered on the spot."""
        return self.latency_s == 0.0 and self.jitter_s == 0.0 and self.capacity is None


class Visit:
    """One request on its way through the desk."""

    __slots__ = ("came_at", "extra_s", "is_over", "serve", "timer")

    def __init__(self, extra_s: float, serve: Callable[[], None]) -> None:
        self.extra_s = extra_s
        # Called once the time of service has passed; the slot stays taken until `Desk.leave`.
        self.serve = serve
        self.timer: asyncio.TimerHandle | None = None
        self.came_at = 0.0
        self.is_over = False


class Desk:
    """Gives requests a slot each, first come first served."""

    def __init__(self, pace: Pace, stats: Stats) -> None:
        self._pace = pace
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Visit] = deque()
        # Those in the queue whose client left: passed over when their turn comes.
        self._gone = 0

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return len(self._queue) - self._gone

    def enter(self, visit: Visit) -> bool:
        """Serve the request, or let it wait; False where there is no room and nobody may wait."""
        visit.came_at = time.monotonic()
        if self._has_slot():
            self._begin(visit)
        elif self._pace.may_queue:
            self._queue.append(visit)
        else:
            return False
        return True

    def leave(self, visit: Visit) -> None:
        """End a visit, served or given up; a second time does nothing."""
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
