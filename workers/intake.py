"""How a worker takes messages: bounded by lines, and without delay once there is room."""

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
    """Return this process's `LineProcess`; a worker of the lines queue has a `LineProcess` before its first task."""
    if _process is None:
        raise RuntimeError("This worker does not take lines: start it with -Q lines.")
    return _process


def _start(celery: Celery, name: str) -> LineProcess:
    global _process
    if _process is None:
        let_others_go_first()
        settings = load_settings(process=Process.LINES)
        warn_of_upstreams(settings)
        _process = LineProcess(settings, celery, name)
        _process.start()
    return _process


def let_others_go_first() -> None:
    """Put this thread, and threads it starts, under SCHED_BATCH: a waking thread does not cut short a running thread.

    For Linux, where processors are short: the API, whose callers wait, keeps its turn on the processor, and threads
    waiting for the interpreter do not take the processor from the interpreter's holder (decision 0025).
    """
    if sys.platform != "linux":
        return
    # A sandbox may forbid the call, and some C libraries lack the call; only speed depends on the policy.
    with suppress(OSError):
        # Keep a policy that the operator chose.
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class LineIntake(bootsteps.StartStopStep):
    """A consumer step, run at every connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    # Timer of the looks, kept to be cancelled at the next connection; otherwise the old looks go on.
    _looks: Any = None

    def start(self, c: Any) -> None:
        """Start the process's engine, and let the consumer request messages only while there is room for lines."""
        if LINES_QUEUE not in c.app.amqp.queues.consume_from:
            return
        process = _start(c.app, c.hostname)
        if not isinstance(c.pool, LinePool):
            raise RuntimeError("A worker of lines has a pool of its own: start it without -P.")
        c.pool.begin, c.pool.drain_s = process.begin, process.drain_s
        channel = c.task_consumer.channel
        channel.qos.wanted, channel.qos.note, channel.qos.on_take = process.wanted, process.term, process.take
        # Only this process knows the upstreams: the command line names the single queue of lines.
        for queue in process.queues:
            c.add_task_queue(queue)
        if c.hub is not None:
            channel.qos.call_later = c.hub.call_later
            # The hub itself looks again only after a second, or when a message arrives.
            process.on_room(partial(c.hub.call_soon, partial(_look_again, channel)))
            if self._looks is not None:
                self._looks.cancel()
            self._looks = keep_looking(c.hub.timer, channel)

    def stop(self, c: Any) -> None:
        """While the worker ends, let every thread acknowledge or give back its own message.

        The loop, which normally settles messages, has ended by now, and would leave returned messages to the last
        moment.
        """
        if _process is None or not _process.is_draining:
            return
        hub, c.hub = c.hub, None
        if c.task_consumer:
            c.task_consumer.channel.qos.stop_gathering()
            # No task goes on here: messages left at the end are for other workers.
            c.task_consumer.channel.do_restore = True
        # The last request for a message stays open for up to a second, and would take a message just given back.
        pending = [c.task_consumer.cancel, partial(_end_request, c.task_consumer.channel)] if c.task_consumer else []
        for settle in [*pending, *(hub._pop_ready() if hub is not None else ())]:
            try:
                settle()
            except Exception:
                log.warning("message.not_settled", exc_info=True)


def _end_request(channel: Any) -> None:
    """Read the answer to the open request; a message goes back to the queue, as no consumer is left."""
    if channel._in_poll:
        with suppress(Empty):
            channel._brpop_read()


def keep_looking(timer: Any, channel: Any) -> Any:
    """Look again every second by this process's clock; return the timer's entry, which can be cancelled.

    The broker ends a request for messages by the broker's clock. If the broker's clock is set back an hour, a request
    for only some of the queues stays open an hour longer.
    """
    return timer.call_repeatedly(_LOOK_EVERY_S, _look_again, (channel,))


def _look_again(channel: Any) -> None:
    """Take waiting messages as far as there is room; after a callback the hub requests more if no request is open."""
    if channel._in_poll and not channel.closed:
        try:
            channel.take_waiting()
        except Exception:
            # An exception would end the loop. The open request meets the fault too, and lets the consumer reconnect.
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
