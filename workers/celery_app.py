"""The Celery application; every setting other than the default stands here with its reason."""

import sys

from celery import Celery
from kombu import Queue

from app.adapters.broker.connections import celery_options, key_prefix
from app.adapters.broker.result_backend import RESULT_BACKENDS
from app.adapters.broker.transport import use_transports
from app.adapters.queue import FILES_QUEUE, LINES_QUEUE, OLD_CONTROL_QUEUE, TICKS_QUEUE, lines_queue
from app.config import leave_out_foreign
from app.wiring.logs import warn_of_foreign
from app.wiring.privacy import keep_private
from app.wiring.start import settings_of_start
from workers.intake import LineIntake
from workers.roles import ControlRole, process_of
from workers.room import MESSAGES_PER_SLOT
from workers.schedule import QUEUES_OF_KINDS, SCHEDULE
from workers.transport import SentinelTransport, Transport

keep_private()
# Celery and libpq read the environment by themselves: Celery here and in the command line, which goes on once this
# module is loaded.
_FOREIGN = leave_out_foreign()
settings = settings_of_start(process_of(sys.argv))
warn_of_foreign(_FOREIGN)

_DAY_S = 86_400
# Chord keys must outlive the longest batch: Redis' default of a day would end a batch of 24 h.
_CHORD_LIFETIME_S = settings.longest_window_s + 2 * _DAY_S
# kombu would redeliver an unacknowledged message after this time, by the clock of the looking process. Ten years mean
# never: upkeep resends the tasks of a dead process within seconds, and needs no clock to notice the death.
_VISIBILITY_TIMEOUT_S = 3_650 * _DAY_S
# Most calls in flight in this worker, with all upstreams busy.
_SLOTS = sum(spec.max_in_flight or settings.concurrency for spec in settings.upstreams)
# Most messages taken by a worker: the sum over its upstreams. A waiting message holds no thread.
_MESSAGES = MESSAGES_PER_SLOT * _SLOTS
# For the threads of the pool, the loop and upkeep, and as many connections again for reconnecting.
_MAX_CONNECTIONS = 64
# How long the broker may take to answer. A request for messages is answered within a second, if only as empty.
_ANSWER_S = 30.0

use_transports(Transport, SentinelTransport)

app = Celery(
    "wylon",
    include=[
        "workers.logs",
        "workers.start",
        "workers.control_tasks",
        "workers.file_tasks",
        "workers.line_tasks",
        "workers.beat_tasks",
    ],
)
app.conf.update(
    # Messages go by queue name through the default exchange: Redis keeps no binding, which a flush could lose.
    task_queues=[
        Queue(name, routing_key=name)
        for name in (
            *(TICKS_QUEUE, FILES_QUEUE, OLD_CONTROL_QUEUE, LINES_QUEUE),
            *(lines_queue(spec.name) for spec in settings.upstreams),
            *(name for names in QUEUES_OF_KINDS.values() for name in names),
        )
    ],
    task_default_queue=TICKS_QUEUE,
    task_create_missing_queues=False,
    # A message is acknowledged only after its work: a dying worker loses no taken message.
    task_acks_late=True,
    # Results are rows in the database; a header task still counts for its chord.
    task_ignore_result=True,
    worker_pool="workers.line_pool:LinePool",
    # For a worker of lines; the command lines of ticks and files processes give their own numbers.
    worker_concurrency=_MESSAGES,
    # A worker takes no more messages than its concurrency; `workers.intake` also bounds the lines.
    worker_prefetch_multiplier=1,
    # A single backend for all threads (265 → 505 chord parts a second): the backend never waits for a result.
    result_backend_thread_safe=True,
    result_expires=_CHORD_LIFETIME_S,
    result_chord_expires=_CHORD_LIFETIME_S,
    result_backend_always_retry=True,
    redis_max_connections=_MAX_CONNECTIONS,
    broker_connection_retry_on_startup=True,
    # The broker may be away for any time; its return ends the wait.
    broker_connection_max_retries=None,
    # A message carries only ids, and only wylon reads messages.
    task_serializer="json",
    accept_content=["json"],
    worker_send_task_events=False,
    # Nobody asks: the subscription needs a permission for channels, and a sender could end workers.
    worker_enable_remote_control=False,
    worker_hijack_root_logger=True,
    worker_redirect_stdouts=False,
    beat_schedule=SCHEDULE,
    beat_scheduler="workers.beat_scheduler:TickScheduler",
    timezone="UTC",
)


def take_identity(deployment: str) -> None:
    """Restrict Celery to this deployment's keys and queues; call before the first connection to the broker."""
    app.conf.update(
        celery_options(
            settings.broker,
            timeout_s=_ANSWER_S,
            prefix=key_prefix(deployment),
            visibility_timeout=_VISIBILITY_TIMEOUT_S,
            # kombu restores messages every 10 s instead of every 100: restoring is a scan of a few hundred entries.
            unacked_restore_interval=10,
            unacked_restore_throttle=1,
            health_check_interval=25,
            max_connections=_MAX_CONNECTIONS,
        )
    )


app.loader.override_backends = RESULT_BACKENDS
app.steps["consumer"].update((LineIntake, ControlRole))
