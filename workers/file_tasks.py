"""The tasks of a process of files: validation and finalizing, a few lines each over a service."""

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import structlog
from celery import signals
from celery.worker import state

from app.adapters.queue import FILES_QUEUE, FINALIZE, VALIDATE
from app.domain.errors import Unavailable
from app.services import ticks
from app.services.leases import RENEW_S
from workers.celery_app import app
from workers.control_tasks import control
from workers.file_turns import FileTurns, Task, Turn
from workers.vital_thread import vital_thread

log = structlog.get_logger()

# How often a process of files says that it is there.
_COUNT_EVERY_S = 1.5


def _validate(batch_id: str, rest: Callable[[], None]) -> None:
    if not control().validation.validate(batch_id, rest):
        return
    try:
        # The process of ticks hands lines out: a refill in this one, slow as it may be, would hold the others up.
        control().queue.refill()
    except Unavailable:
        # Beat asks for a refill within a second.
        log.warning("refill.not_asked", batch_id=batch_id, exc_info=True)


_turns = FileTurns(
    {
        VALIDATE: Task(lambda batch_id: control().validation.work(batch_id), _validate),
        FINALIZE: Task(
            lambda batch_id: control().finalization.work(batch_id),
            lambda batch_id, rest: control().finalization.finalize(batch_id, rest),
        ),
    },
    is_ending=lambda: state.should_stop is not None,
)


def _renew_leases() -> None:
    while True:
        time.sleep(RENEW_S)
        try:
            control().leases.renew()
        except Exception:
            # Whatever it was, the work renews its leases itself as it goes on.
            log.warning("lease.not_renewed", exc_info=True)


@cache
def _lease_keeper() -> threading.Thread:
    """Return the thread that renews what this process holds, begun with the first work."""
    thread = vital_thread("lease-keeper", _renew_leases)
    thread.start()
    return thread


def _count() -> None:
    while True:
        try:
            control().ticks.count(ticks.FILES)
        except Exception:
            log.warning("tick.not_counted", exc_info=True)
        time.sleep(_COUNT_EVERY_S)


@signals.worker_ready.connect
def _begin_to_count(sender: Any = None, **_: Any) -> None:
    if any(queue.name == FILES_QUEUE for queue in sender.task_consumer.queues):
        vital_thread("files-counter", _count).start()


@app.task(name=VALIDATE)
def validate(batch_id: str) -> None:
    """Check a batch's input and let it run, at once or when others are done."""
    _lease_keeper()
    _turns.take(Turn(VALIDATE, batch_id))


@app.task(name=FINALIZE)
def finalize(batch_id: str) -> None:
    """Write the files of a batch whose lines have all returned: the callback of its chord."""
    _lease_keeper()
    _turns.take(Turn(FINALIZE, batch_id))
