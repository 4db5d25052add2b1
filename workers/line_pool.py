"""The pool of a worker: its threads begin and end line tasks, and do not wait in between."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog
from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool

from app.adapters.queue import RUN_LINES

log = structlog.get_logger()

# Beginning or ending a task takes a millisecond or less: more threads would only take turns.
_THREADS = 16

# Begins the task of a request, and calls back, from whichever thread, once the lines are settled.
Begin = Callable[[dict[str, Any], Callable[[], None]], None]


class LinePool(TaskPool):
    """Celery's pool of threads, in which a line task holds a thread only to begin and to end."""

    # Set in a process that runs lines.
    begin: Begin | None = None
    # How long the end of the process waits for begun tasks, in seconds.
    drain_s = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # `limit` itself bounds the messages the worker takes.
        self.executor = ThreadPoolExecutor(max_workers=min(self.limit, _THREADS))
        self._open = 0
        self._changed = threading.Condition()

    def on_apply(  # type: ignore[override]
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> "Future[Any]":
        run = partial(apply_target, target, args or (), kwargs, callback, accept_callback)
        if self.begin is None or not args or args[0] != RUN_LINES:
            return self.executor.submit(run)
        self._count(1)
        return self.executor.submit(self.begin, args[2], partial(self._end, run))

    def on_stop(self) -> None:
        """Wait for the begun tasks, then for the threads."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._open == 0, self.drain_s):
                log.warning("tasks.left", tasks=self._open)
        super().on_stop()

    def _end(self, run: Callable[[], object]) -> None:
        try:
            self.executor.submit(run).add_done_callback(self._ended)
        except RuntimeError:
            # The threads have ended: nobody waits for the task, and upkeep sends the task again.
            log.warning("task.left")

    def _ended(self, _: "Future[object]") -> None:
        self._count(-1)

    def _count(self, tasks: int) -> None:
        with self._changed:
            self._open += tasks
            self._changed.notify_all()
