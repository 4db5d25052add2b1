"""Celery as the queue: task names, queue names, and the chord of a batch, in Celery's own format."""

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

# Light work that must not wait: refills, expiry, repair, closing. A process for this queue takes no heavy work.
TICKS_QUEUE = "ticks"
# Work that may take long: checking inputs, writing files, deleting.
FILES_QUEUE = "files"
# The old name, from before the split into two queues; a process started with this name takes both.
OLD_CONTROL_QUEUE = "control"
# Line tasks wait in a queue per upstream, `lines.<upstream>`. Messages without lines wait in `lines` itself.
LINES_QUEUE = "lines"

VALIDATE = "control.validate"
REFILL = "control.refill"
CLOSE = "control.close"
FINALIZE = "control.finalize"
RUN_LINES = "lines.run"
END_CHORD = "lines.end_chord"
# The prefixes of the tasks that control runs: requested work, and the ticks of beat.
_CONTROL_TASKS = ("control.", "beat.")

# The most messages in one command: more messages bring no gain, and each message waits in memory.
_PUBLISH_AT_ONCE = 1_000
# Adds messages to a queue, unless the batch was fenced after the sender read the fence: a sender that paused must not
# send tasks that repair has sent meanwhile. A Redis list exists as soon as it has an entry.
_PUSH_UNLESS_FENCED = """
if (redis.call('get', KEYS[2]) or '') ~= ARGV[1] then return 0 end
redis.call('lpush', KEYS[1], unpack(ARGV, 2))
return 1
"""
# The endings of the Redis backend's keys for a group: the group itself, results, size delta, size, seen parts, claim.
_GROUP_KEYS = ("", ".j", ".t", ".s", ".d", ".c")
# kombu's keys for messages taken and not acknowledged: the messages by tag, and the tags by instant.
_UNACKED, _UNACKED_INDEX = "unacked", "unacked_index"
_DELETE_AT_ONCE = 1_000

# A caller waits for the send: after two tries the API answers, and upkeep sends the message later.
_SENDER_RETRIES = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1}
_SENDER_TIMEOUT_S = 5


def lines_queue(upstream: str) -> str:
    """Return the name of the queue for an upstream's line tasks."""
    return f"{LINES_QUEUE}.{upstream}"


def queue_of_kind(group: str, task: str) -> str:
    """Return the name of the queue for a single kind of task, apart from the other tasks of the group.

    For interchangeable tasks, the length of the queue tells whether a task waits.
    """
    return f"{group}.{task.rpartition('.')[2]}"


def open_sender(broker: BrokerAddress, deployment: str) -> Celery:
    """Return a Celery application that only sends, for processes other than workers."""
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

    A batch's line tasks are the header of a chord whose callback finalizes the batch. The header is published as the
    window allows. So the chord's size is fixed first, and each message carries group, index and callback, as
    `celery.chord` would write them.
    """

    def __init__(self, app: Celery, client: redis.Redis, upstreams: Sequence[str] = (DEFAULT_UPSTREAM,)) -> None:
        self._app = app
        self._redis = client
        self._push_unless_fenced = client.register_script(_PUSH_UNLESS_FENCED)
        self._queues = {name: lines_queue(name) for name in upstreams}
        self._line_messages = {name: LineMessages(app, RUN_LINES, queue) for name, queue in self._queues.items()}

    def validate(self, batch_id: str) -> None:
        # In a queue of its own: hundreds of batches may end at once, and a new batch must not wait behind them.
        self._tell(queue_of_kind(FILES_QUEUE, VALIDATE), VALIDATE, batch_id)

    def refill(self) -> None:
        queue = queue_of_kind(TICKS_QUEUE, REFILL)
        with _broker_errors():
            # A waiting refill reads the state when it begins, so it serves every request made until then.
            is_asked = self._redis.llen(queue) > 0
        if not is_asked:
            self._tell(queue, REFILL)

    def close(self, batch_id: str) -> None:
        self._tell(TICKS_QUEUE, CLOSE, batch_id)

    def finalize(self, batch_id: str) -> None:
        self._tell(FILES_QUEUE, FINALIZE, batch_id)

    def has_file_messages(self) -> bool:
        with _broker_errors():
            return any(self._redis.llen(queue) for queue in (FILES_QUEUE, queue_of_kind(FILES_QUEUE, VALIDATE)))

    def open_chord(self, batch_id: str, tasks: int) -> None:
        # Written as Celery's backend does, but never over an existing size: for a chord closed meanwhile, `tasks` would
        # count tasks that are never sent.
        backend: Any = self._app.backend
        size_key = self._group_key(ids.group_id(batch_id), ".s")
        with _broker_errors():
            self._redis.set(size_key, tasks, ex=backend.chord_expires or None, nx=True)

    def close_chord(self, batch_id: str, dispatched: int, tasks: int) -> None:
        with _broker_errors():
            self._app.backend.set_chord_size(ids.group_id(batch_id), dispatched + 1)
            # The index after the last task of the plan. The message counts once, however often it is sent.
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
        messages = writer.write(batch_id, tasks, delivery.value, self._part_of)
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
        # The Redis backend; Celery's types know only the members common to every backend.
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
            # These texts are never read, and making them takes time.
            "argsrepr": "",
            "kwargsrepr": "",
        }


def _task_id(message: bytes) -> str | None:
    try:
        return str(json.loads(message)["headers"]["id"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _unacked(tag: str, message: bytes | None) -> Unacked:
    """Return the message as an `Unacked`; garbage, and a tag without a message, belongs to no batch."""
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
