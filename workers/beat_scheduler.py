"""Beat's schedule: in memory, by the monotonic clock, one tick of a kind waiting at a time.

Celery's own schedule is a file that a power cut can tear, and goes by the time of day, which steps. This one has no
file, and a tick carries no instant: a tick that waits is as good as the next, so beat sends none beside it.
"""

import time
from collections.abc import Callable
from typing import Any

import structlog
from celery.beat import Scheduler

from app.wiring.stores import deployment_of, open_redis
from workers.celery_app import settings

log = structlog.get_logger()

# Bounds the sleep between two looks, so that the end of the process is noticed.
_LONGEST_SLEEP_S = 1.0


class TickScheduler(Scheduler):
    """Sends each entry of `beat_schedule` when its seconds have passed, unless one of its kind waits.

    Args:
        monotonic: seconds that only go on.
        client: a client of the broker; by default one is opened.
        options: those of Celery's scheduler; a file name among them is of no matter.
    """

    def __init__(
        self, *args: Any, monotonic: Callable[[], float] = time.monotonic, client: Any = None, **options: Any
    ) -> None:
        self._monotonic = monotonic
        self._due_at: dict[str, float] = {}
        self._redis = client
        super().__init__(*args, **options)

    def setup_schedule(self) -> None:
        # All are due at once: after a restart nothing is known of the ticks before.
        self._due_at = dict.fromkeys(self.app.conf.beat_schedule, self._monotonic())

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due; return the seconds until the next tick is."""
        for name, due_at in self._due_at.items():
            if self._monotonic() >= due_at:
                entry = self.app.conf.beat_schedule[name]
                # Counted from now on: after a standstill one tick is sent, and not all that were missed.
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
        """What beat's banner says of where the schedule is kept."""
        return "    . schedule -> in memory"
