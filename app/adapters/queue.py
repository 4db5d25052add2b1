"""Celery as the queue: task names, queue names, and the chord of a batch, written as Celery writes it."""

import base64
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from app.adapters.broker.connections import celery_options, key_prefix
from app.adapters.broker.result_backend import RESULT_BACKENDS
from app.adapters.broker.transport import SentinelTransport, Transport, use_transports
from app.adapters.line_messages import LineMessages
from app.adapters.roster import fence_key
from app.domain import ids
from app.domain.broker_address import BrokerAddress
from app.domain.errors import Unavailable
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Delivery, LineTask, Unacked

# Light work that must not wait: refills, expiry, repair, closing. A process that takes this takes nothing heavy.
TICKS_QUEUE = "ticks"
# Work that may take long: checking inputs, writing files, deleting.
FILES_QUEUE = "files"
# A process that was started with this one, as before there were two, takes both.
OLD_CONTROL_QUEUE = "control"
# Line tasks wait in a queue for each upstream, `lines.<upstream>`. What is no line's waits in the one itself.
LINES_QUEUE = "lines"

VALIDATE = "control.validate"
REFILL = "control.refill"
CLOSE = "control.close"
FINALIZE = "control.finalize"
RUN_LINES = "lines.run"
END_CHORD = "lines.end_chord"
# How the names of all that control runs begin: what is asked for, and the ticks of beat.
_CONTROL_TASKS = ("control.", "beat.")

# Messages go out in one command for this many: more brings nothing, and each waits in memory.
_PUBLISH_AT_ONCE = 1_000
# Adds messages to a queue, unless the batch was fenced since the sender read its fence: a sender that stood still must
# not send what repair has sent meanwhile. A list in Redis is there when something is in it.
_PUSH_UNLESS_FENCED = """
if (redis.call('get', KEYS[2]) or '') ~= ARGV[1] then return 0 end
redis.call('lpush', KEYS[1], unpack(ARGV, 2))
return 1
"""
# What the Redis backend keeps for a group: itself, results, size delta, size, seen parts, claim.
_GROUP_KEYS = ("", ".j", ".t", ".s", ".d", ".c")
# Where kombu keeps the messages that were taken and not acknowledged: by tag, and their tags by instant.
_UNACKED, _UNACKED_INDEX = "unacked", "unacked_index"
_DELETE_AT_ONCE = 1_000

# A caller waits for this: two tries, then the API answers, and upkeep sends what was not sent.
_SENDER_RETRIES = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1}
_SENDER_TIMEOUT_S = 5


def lines_queue(upstream: str) -> str:
    """Return the name of the queue for an upstream's line tasks."""
    return f"{LINES_QUEUE}.{upstream}"


def queue_of_kind(group: str, task: str) -> str:
    """Return the name of the queue in which tasks of one kind wait by themselves, beside those of their group.

    Where each is as good as the next, the length of that queue says whether one waits.
    """
    return f"{group}.{task.rpartition('.')[2]}"


def open_sender(broker: BrokerAddress, deployment: str) -> Celery:
    """Return a Celery application that sends and runs nothing, for processes that are no workers."""
    use_transports(Transport, SentinelTransport)
    sender = Celery("wylon")
    sender.loader.override_backends = RESULT_BACKENDS
    sender.conf.update(
        task_publish_retry_policy=_SENDER_RETRIES,
        broker_connection_timeout=_SENDER_TIMEOUT_S,
        **celery_options(broker, timeout_s=_SENDER_TIMEOUT_S, prefix=key_prefix(deployment)),
    )
    return sender


class CeleryQueue:
    """`Queue` on Celery over Redis.

    A batch's line tasks are the header of one chord whose callback finalizes the batch. The header is published as
    the window allows, so the chord's size is fixed first and each message carries group, index and callback, as
    `celery.chord` would have written them.
    """

    def __init__(self, app: Celery, client: redis.Redis, upstreams: Sequence[str] = (DEFAULT_UPSTREAM,)) -> None:
        self._app = app
        self._redis = client
        self._push_unless_fenced = client.register_script(_PUSH_UNLESS_FENCED)
        self._queues = {name: lines_queue(name) for name in upstreams}
        self._line_messages = {name: LineMessages(app, RUN_LINES, queue) for name, queue in self._queues.items()}

    def validate(self, batch_id: str) -> None:
        self._tell(FILES_QUEUE, VALIDATE, batch_id)

    def refill(self) -> None:
        queue = queue_of_kind(TICKS_QUEUE, REFILL)
        with _broker_errors():
            # A refill that waits looks at what is there when it begins: it serves all who ask until then.
            is_asked = self._redis.llen(queue) > 0
        if not is_asked:
            self._tell(queue, REFILL)

    def close(self, batch_id: str) -> None:
        self._tell(TICKS_QUEUE, CLOSE, batch_id)

    def finalize(self, batch_id: str) -> None:
        self._tell(FILES_QUEUE, FINALIZE, batch_id)

    def open_chord(self, batch_id: str, tasks: int) -> None:
        # Written as the backend writes it, but never over a size that is there: of a chord that was closed meanwhile
        # this would count tasks that nobody sends any more.
        backend: Any = self._app.backend
        size_key = self._group_key(ids.group_id(batch_id), ".s")
        with _broker_errors():
            self._redis.set(size_key, tasks, ex=backend.chord_expires or None, nx=True)

    def close_chord(self, batch_id: str, dispatched: int, tasks: int) -> None:
        with _broker_errors():
            self._app.backend.set_chord_size(ids.group_id(batch_id), dispatched + 1)
            # An index past all others: it is no task of the plan, and counts once however often it is sent.
            self._app.send_task(
                END_CHORD,
                args=(batch_id,),
                queue=LINES_QUEUE,
                task_id=ids.task_id(batch_id, tasks),
                group_index=tasks,
                **self._part_of(batch_id),
            )

    def publish_lines(
        self, batch_id: str, upstream: str, tasks: Sequence[LineTask], delivery: Delivery, fence: str
    ) -> bool:
        writer = self._line_messages[upstream]
        messages = writer.write(batch_id, tasks, delivery.value, self._part_of(batch_id))
        keys = [self._queues[upstream], fence_key(batch_id)]
        with _broker_errors():
            while some := list(islice(messages, _PUBLISH_AT_ONCE)):
                if not self._push_unless_fenced(keys=keys, args=[fence, *some]):
                    return False
        return True

    def queued_tasks(self) -> set[str]:
        with _broker_errors():
            waiting: list[Any] = [self._redis.lrange(queue, 0, -1) for queue in self._queues.values()]
        return {task_id for messages in waiting for message in messages if (task_id := _task_id(message))}

    def drop_unknown_queues(self) -> None:
        known = {queue.encode() for queue in self._queues.values()}
        with _broker_errors():
            unknown = [key for key in self._redis.scan_iter(match=lines_queue("*"), count=1_000) if key not in known]
            if unknown:
                self._redis.delete(*unknown)

    def forget(self, batch_id: str) -> None:
        self.drop_chords([ids.group_id(batch_id)])

    def chords(self) -> set[str]:
        pattern = self._group_key("*", "")
        prefix = pattern.removesuffix("*")
        with _broker_errors():
            found = self._redis.scan_iter(match=pattern, count=1_000)
            return {str(key, "utf-8").removeprefix(prefix).partition(".")[0] for key in found}

    def drop_chords(self, group_ids: Collection[str]) -> None:
        keys = [self._group_key(group_id, ending) for group_id in group_ids for ending in _GROUP_KEYS]
        with _broker_errors():
            for start in range(0, len(keys), _DELETE_AT_ONCE):
                self._redis.delete(*keys[start : start + _DELETE_AT_ONCE])

    def unacked(self, limit: int) -> list[Unacked]:
        with _broker_errors():
            tags: Any = self._redis.zrange(_UNACKED_INDEX, 0, limit - 1)
            messages: Any = self._redis.hmget(_UNACKED, tags) if tags else []
        return [_unacked(str(tag, "utf-8", "replace"), message) for tag, message in zip(tags, messages, strict=True)]

    def drop_unacked(self, tags: Sequence[str]) -> None:
        if not tags:
            return
        with _broker_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(_UNACKED_INDEX, *tags)
            pipe.hdel(_UNACKED, *tags)
            pipe.execute()

    def _group_key(self, group_id: str, ending: str) -> str:
        # The Redis backend; Celery's types know only what all backends have.
        backend: Any = self._app.backend
        return str(backend.get_key_for_group(group_id, ending), "utf-8")

    def _tell(self, queue: str, name: str, *args: str) -> None:
        with _broker_errors():
            self._app.send_task(name, args=args, queue=queue, ignore_result=True)

    def _part_of(self, batch_id: str) -> dict[str, Any]:
        """Return the options that make a task a part of the batch's chord."""
        callback: Any = self._app.signature(FINALIZE, args=(batch_id,), immutable=True, queue=FILES_QUEUE)
        return {
            "group_id": ids.group_id(batch_id),
            "chord": callback,
            "ignore_result": True,
            # Nobody reads them, and making them takes time.
            "argsrepr": "",
            "kwargsrepr": "",
        }


def _task_id(message: bytes) -> str | None:
    try:
        return str(json.loads(message)["headers"]["id"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _unacked(tag: str, message: bytes | None) -> Unacked:
    """Return what was taken; garbage, and where only the instant is left, as what belongs to no batch."""
    nobodys = Unacked(tag, "", is_lines=True, batch_id=None)
    if message is None:
        return nobodys
    try:
        content = json.loads(message)[0]
        task_id, name = str(content["headers"]["id"]), str(content["headers"]["task"])
        if not name.startswith(_CONTROL_TASKS):
            return Unacked(tag, task_id if name in (RUN_LINES, END_CHORD) else "", is_lines=True, batch_id=None)
        args = json.loads(base64.b64decode(content["body"]))[0]
        return Unacked(tag, task_id, is_lines=False, batch_id=args[0] if args else None)
    except (ValueError, TypeError, LookupError, RecursionError):
        return nobodys


@contextmanager
def _broker_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, KombuError, redis.RedisError, ConnectionError) as fault:
        raise Unavailable(f"The broker does not answer: {fault}") from fault
