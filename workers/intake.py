"""How a worker takes messages: bounded by lines, and awake the moment there is room."""

import os
import sys
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any

import structlog
from celery import Celery, bootsteps, signals

from app.adapters.queue import LINES_QUEUE, RUN_LINES
from app.config import Process, load_settings
from app.wiring.upstream_watch import warn_of_upstreams
from workers.line_pool import LinePool
from workers.line_process import LineProcess

log = structlog.get_logger()

_LOOK_EVERY_S = 1.0

_process: LineProcess | None = None


def line_process() -> LineProcess:
    """Return this process's engine and all; a worker of the lines queue has it before its first task."""
    if _process is None:
        raise RuntimeError("This worker does not take lines: start it with -Q lines.")
    return _process


def _start(celery: Celery, name: str) -> LineProcess:
    global _process
    if _process is None:
        let_others_go_first()
        settings = load_settings(process=Process.CELERY)
        warn_of_upstreams(settings)
        _process = LineProcess(settings, celery, name)
        _process.start()
    return _process


def let_others_go_first() -> None:
    """Have this thread, and those that it starts, wait for the end of a turn instead of cutting short another's.

    For Linux's scheduler, where processors are short: the API, which has somebody waiting, keeps its turn, and threads
    that wait for the interpreter do not take the processor from the one that has it (decision 0025).
    """
    if sys.platform != "linux":
        return
    # A sandbox may forbid it, and some C libraries lack it; nothing but speed depends on it.
    with suppress(OSError):
        # An operator who chose another policy meant it.
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class LineIntake(bootsteps.StartStopStep):
    """A step of the consumer, done at each connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    # The looks of the connection before go on otherwise.
    _looks: Any = None

    def start(self, c: Any) -> None:
        """Start the process's engine, and have the consumer ask for a message only while there is room for lines."""
        if LINES_QUEUE not in c.app.amqp.queues.consume_from:
            return
        process = _start(c.app, c.hostname)
        if not isinstance(c.pool, LinePool):
            raise RuntimeError("A worker of lines has a pool of its own: start it without -P.")
        c.pool.begin, c.pool.drain_s = process.begin, process.drain_s
        channel = c.task_consumer.channel
        channel.qos.wanted, channel.qos.note, channel.qos.on_take = process.wanted, process.term, process.take
        # Only this process knows which upstreams there are: whoever starts it names the one queue.
        for queue in process.queues:
            c.add_task_queue(queue)
        if c.hub is not None:
            channel.qos.call_later = c.hub.call_later
            # By itself the hub looks again only when a second is over or a message comes.
            process.on_room(partial(c.hub.call_soon, partial(_look_again, channel)))
            if self._looks is not None:
                self._looks.cancel()
            self._looks = keep_looking(c.hub.timer, channel)

    def stop(self, c: Any) -> None:
        """While the worker ends, have each thread acknowledge or give back its message itself.

        The loop that does it otherwise has ended by now, and would leave all that is given back to the last moment.
        """
        if _process is None or not _process.is_draining:
            return
        hub, c.hub = c.hub, None
        if c.task_consumer:
            c.task_consumer.channel.qos.stop_gathering()
            # Nothing goes on here: what is left at the end is others'.
            c.task_consumer.channel.do_restore = True
        # The last request for a message is still open, for up to a second: it would take what is given back.
        pending = [c.task_consumer.cancel, partial(_end_request, c.task_consumer.channel)] if c.task_consumer else []
        for settle in [*pending, *(hub._pop_ready() if hub is not None else ())]:
            try:
                settle()
            except Exception:
                log.warning("message.not_settled", exc_info=True)


def _end_request(channel: Any) -> None:
    """Read the answer to the open request; a message goes back to the queue, as nobody takes any."""
    if channel._in_poll:
        with suppress(Empty):
            channel._brpop_read()


def keep_looking(timer: Any, channel: Any) -> Any:
    """Look again each second by this process's clock; return what can be cancelled.

    The broker ends a request for messages by its own clock. Where that is set back an hour, a request that names some
    queues only stays open for as long.
    """
    return timer.call_repeatedly(_LOOK_EVERY_S, _look_again, (channel,))


def _look_again(channel: Any) -> None:
    """Take what waits for the room there is; the hub asks for a message after each callback, unless it has asked."""
    if channel._in_poll and not channel.closed:
        try:
            channel.take_waiting()
        except Exception:
            # The loop would not survive it; the open request meets the same, and has the consumer connect anew.
            log.warning("messages.not_taken", exc_info=True)


@signals.task_received.connect
def _count_task(request: Any = None, **_: Any) -> None:
    if _process is not None and request.name == RUN_LINES:
        _batch_id, _number, first, end, *_ = request.args
        _process.receive(request.id, request.delivery_info["routing_key"], end - first)


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    if _process is not None:
        _process.drain()


@signals.worker_shutdown.connect
def _stop(**_: Any) -> None:
    if _process is not None:
        _process.stop()
