"""The tasks of a files process: validation and finalizing, a few lines over a service."""

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import structlog
from celery import signals
from celery.worker import state

from app.adapters.queue import FILES_QUEUE, FINALIZE, VALIDATE
from app.services import ticks
from app.services.leases import RENEW_S
from workers.celery_app import app
from workers.control_tasks import control
from workers.file_turns import FileTurns, Task, Turn
from workers.refill_requests import RefillRequests
from workers.vital_thread import vital_thread

log = structlog.get_logger()

# Interval at which a files process counts, to show that the process lives.
_COUNT_EVERY_S = 1.5


def _validate(batch_id: str, rest: Callable[[], None]) -> None:
    if control().validation.validate(batch_id, rest):
        _refills.request()


# The ticks process refills: a refill may be slow, and would hold up file work in this process.
_refills = RefillRequests(lambda: control().queue.refill())
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
            # After a fault, the work itself still renews its leases as the work goes on.
            log.warning("lease.not_renewed", exc_info=True)


@cache
def _lease_keeper() -> threading.Thread:
    """Return the thread that renews this process's leases; the first work starts the thread."""
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
    """Check a batch's input and let the batch run, at once or after other work."""
    _lease_keeper()
    _turns.take(Turn(VALIDATE, batch_id))


@app.task(name=FINALIZE)
def finalize(batch_id: str) -> None:
    """Write the files of a batch once all lines have returned: the callback of the batch's chord."""
    _lease_keeper()
    _turns.take(Turn(FINALIZE, batch_id))
