"""Beat's schedule: in memory, by the monotonic clock, with at most one waiting tick of a kind.

Celery's own schedule is a file, which a power cut can tear, and follows the time of day, which steps. `TickScheduler`
has no file. A tick carries no instant: a waiting tick is as good as the next, so beat sends no tick beside it.
"""

import time
from collections.abc import Callable
from typing import Any

import structlog
from celery.beat import Scheduler

from app.wiring.stores import deployment_of, open_redis
from workers.celery_app import settings

log = structlog.get_logger()

# Bounds the sleep between two looks, so that beat notices the end of the process.
_LONGEST_SLEEP_S = 1.0


class TickScheduler(Scheduler):
    """Sends an entry of `beat_schedule` when its seconds have passed, unless a tick of the kind waits.

    Args:
        monotonic: seconds of a monotonic clock.
        client: a client of the broker; opened if not given.
        options: options of Celery's scheduler; a file name has no effect.
    """

    def __init__(
        self, *args: Any, monotonic: Callable[[], float] = time.monotonic, client: Any = None, **options: Any
    ) -> None:
        self._monotonic = monotonic
        self._due_at: dict[str, float] = {}
        self._redis = client
        super().__init__(*args, **options)

    def setup_schedule(self) -> None:
        # All ticks are due at once: after a restart, earlier ticks are unknown.
        self._due_at = dict.fromkeys(self.app.conf.beat_schedule, self._monotonic())

    def tick(self, *_: Any, **__: Any) -> float:
        """Send the due ticks; return the seconds until the next tick is due."""
        for name, due_at in self._due_at.items():
            if self._monotonic() >= due_at:
                entry = self.app.conf.beat_schedule[name]
                # Count from now: after a standstill beat sends a single tick, and not every missed tick.
                self._due_at[name] = self._monotonic() + entry["schedule"]
                self._send(entry["task"], entry["options"]["queue"])
        left_s = min(self._due_at.values(), default=self._monotonic()) - self._monotonic()
        return min(max(left_s, 0.0), _LONGEST_SLEEP_S)

    def _send(self, task: str, queue: str) -> None:
        try:
            if self._client().llen(queue) == 0:
                self.app.send_task(task, queue=queue, ignore_result=True)
        except Exception as fault:
            # The broker is away; the next tick tries again.
            log.warning("tick.not_sent", tick=task, error=str(fault))

    def _client(self) -> Any:
        if self._redis is None:
            self._redis = open_redis(settings, deployment_of(settings))
        return self._redis

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()
        super().close()

    @property
    def info(self) -> str:
        """The line on the schedule in beat's banner."""
        return "    . schedule -> in memory"
