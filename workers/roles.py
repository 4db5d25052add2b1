"""The role of a Celery process, given by its command line."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from celery import bootsteps

from app.adapters.queue import FILES_QUEUE, LINES_QUEUE, OLD_CONTROL_QUEUE, TICKS_QUEUE
from app.config import Process
from workers.schedule import QUEUES_OF_KINDS

log = structlog.get_logger()

# A tenth of the weight of a process with niceness 0: enough to go on while other processes keep every core busy, and
# little enough not to disturb them much.
_NICENESS = 10
_SWITCH_EVERY_S = 0.0002
# If Linux shares cores among sessions first, niceness counts only within a session; the session has its own niceness.
_NICENESS_OF_SESSION = Path("/proc/self/autogroup")
_KINDS = {TICKS_QUEUE: Process.CONTROL, FILES_QUEUE: Process.FILES, LINES_QUEUE: Process.LINES}
_QUEUES = re.compile(r"\n(?:-Q\n?|--queues[=\n])=?([^\n]*)")


def process_of(arguments: Sequence[str]) -> Process:
    """Return the kind of the process with this command line of Celery."""
    # A worker may have the name `beat`.
    if "beat" in arguments and "worker" not in arguments:
        return Process.BEAT
    queues = _QUEUES.search("\n".join(["", *arguments]))
    return _KINDS.get(queues[1], Process.CELERY) if queues else Process.CELERY


class ControlRole(bootsteps.StartStopStep):
    """A consumer step, run at every connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, give_way: Callable[[], None] | None = None, **options: Any) -> None:
        super().__init__(parent, **options)
        self._give_way = give_way or lower_priority

    def start(self, c: Any) -> None:
        """Also take the ticks of the queues on this process's command line."""
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
            # The thread that takes messages waits for the interpreter after each reply of the broker. With the usual
            # 5 ms, messages wait for seconds beside four threads that check and write files.
            sys.setswitchinterval(_SWITCH_EVERY_S)


def lower_priority() -> None:
    """Give this process less of the processor than other processes, where processors are short."""
    with suppress(OSError):
        # Keep a priority chosen by the operator. Threads started from here on inherit this thread's priority.
        if os.getpriority(os.PRIO_PROCESS, 0) == 0:
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
            _NICENESS_OF_SESSION.write_text(str(_NICENESS))
