"""Writes the messages of line tasks as Celery does, in a fraction of Celery's time.

Celery takes 0.2 ms to write a message, and nearly the whole message is equal for every task of a batch. So Celery
writes a sample message into memory, and the other messages are made from the sample by changing a few fields.
"""

import base64
import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from celery import Celery
from kombu import Connection

from app.domain import ids
from app.services.ports import LineTask

_LOCK = threading.Lock()


class LineMessages:
    """Writes messages as a Celery application with this configuration does; safe to use from several threads."""

    def __init__(self, app: Celery, task_name: str, queue: str) -> None:
        self._app = app
        self._task_name = task_name
        self._queue = queue

    def write(
        self, batch_id: str, tasks: Sequence[LineTask], delivery: str, options: dict[str, Any]
    ) -> Iterator[bytes]:
        """Yield the message of every task, in the form held by the queue.

        Args:
            batch_id: the batch of the tasks.
            tasks: the tasks to write, with a message for each.
            delivery: the value of a `Delivery`.
            options: the arguments of `send_task` shared by the tasks.
        """
        sample = self._sample(batch_id, options)
        headers, properties = sample["headers"], sample["properties"]
        _, kwargs, embed = json.loads(base64.b64decode(sample["body"]))
        for task in tasks:
            task_id = ids.task_id(batch_id, task.number)
            body = json.dumps([[batch_id, *task, delivery], kwargs, embed])
            sample["body"] = base64.b64encode(body.encode()).decode()
            headers["id"] = headers["root_id"] = properties["correlation_id"] = task_id
            headers["group_index"] = task.number
            properties["delivery_tag"] = str(uuid.uuid4())
            yield json.dumps(sample).encode()

    def _sample(self, batch_id: str, options: dict[str, Any]) -> dict[str, Any]:
        task_id = ids.task_id(batch_id, 0)
        # The whole process shares kombu's in-memory queues.
        with _LOCK, Connection("memory://") as connection, connection.channel() as opened:
            channel: Any = opened
            # A call that broke off may have left a message behind.
            channel.queue_purge(self._queue)
            self._app.send_task(
                self._task_name,
                task_id=task_id,
                # Inside a running Celery task the default would be the root id of the running task.
                root_id=task_id,
                group_index=0,
                queue=self._queue,
                producer=self._app.amqp.Producer(channel, auto_declare=False),
                declare=[],
                **options,
            )
            sample: dict[str, Any] = channel._get(self._queue)
        return sample
