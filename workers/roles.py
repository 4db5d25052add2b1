"""What a process of control does, by the queues that it was started with."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from celery import bootsteps

from app.adapters.queue import FILES_QUEUE, OLD_CONTROL_QUEUE, TICKS_QUEUE
from workers.schedule import QUEUES_OF_KINDS

log = structlog.get_logger()

# A third of the weight of a process that has none: enough to go on where others keep every core busy, and little
# enough that these notice it little.
_NICENESS = 5
# Where Linux shares the cores among sessions first, niceness counts within a session only, and the session has its own.
_NICENESS_OF_SESSION = Path("/proc/self/autogroup")


class ControlRole(bootsteps.StartStopStep):
    """A step of the consumer, done at each connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, give_way: Callable[[], None] | None = None, **options: Any) -> None:
        super().__init__(parent, **options)
        self._give_way = give_way or lower_priority

    def start(self, c: Any) -> None:
        """Take the ticks as well that belong to the queues that this process was started with."""
        named = set(c.app.amqp.queues.consume_from)
        groups = {TICKS_QUEUE, FILES_QUEUE} if OLD_CONTROL_QUEUE in named else {TICKS_QUEUE, FILES_QUEUE} & named
        if OLD_CONTROL_QUEUE in named:
            log.warning(
                "control.does_everything",
                advice="Start one process with -Q ticks and another with -Q files: the Procfile has both. "
                "In this one, ticks share the interpreter with validation and the writing of files.",
            )
        for group in sorted(groups):
            for queue in (group, *QUEUES_OF_KINDS[group]):
                c.add_task_queue(queue)
        if groups == {FILES_QUEUE}:
            self._give_way()


def lower_priority() -> None:
    """Have this process get less of the processor than others, where processors are short."""
    with suppress(OSError):
        # An operator who chose a priority meant it. From here on each thread is started with the priority of this one.
        if os.getpriority(os.PRIO_PROCESS, 0) == 0:
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
            _NICENESS_OF_SESSION.write_text(str(_NICENESS))
