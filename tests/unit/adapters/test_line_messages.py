"""The messages of line tasks equal the messages of Celery, to the last field."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from app.adapters.line_messages import LineMessages
from app.domain import ids
from app.services.ports import LineTask

NAME, QUEUE, BATCH = "lines.run", "lines", "batch_1"


@pytest.fixture
def app() -> Celery:
    app = Celery("wylon", broker="memory://", set_as_current=False)
    app.conf.task_default_queue = QUEUE
    return app


def options_of(app: Celery) -> Callable[[str], dict[str, Any]]:
    def of_batch(batch_id: str) -> dict[str, Any]:
        chord = app.signature("control.finalize", args=(batch_id,), immutable=True, queue="control")
        shared = {"chord": chord, "ignore_result": True, "argsrepr": "", "kwargsrepr": ""}
        return {"group_id": ids.group_id(batch_id), **shared}

    return of_batch


def written_by_celery(app: Celery, task: LineTask, batch_id: str = BATCH) -> dict[str, Any]:
    with Connection("memory://") as connection, connection.channel() as opened:
        channel: Any = opened
        channel.queue_purge(QUEUE)
        app.send_task(
            NAME,
            args=(batch_id, *task, "first"),
            queue=QUEUE,
            task_id=ids.task_id(batch_id, task.number),
            group_index=task.number,
            producer=app.amqp.Producer(channel, auto_declare=False),
            declare=[],
            **options_of(app)(batch_id),
        )
        message: dict[str, Any] = channel._get(QUEUE)
    return readable(message)


def readable(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message with a decoded body, without the delivery tag, which differs from message to message."""
    properties = {name: value for name, value in message["properties"].items() if name != "delivery_tag"}
    return message | {"body": json.loads(base64.b64decode(message["body"])), "properties": properties}


def test_messages_equal_the_messages_of_celery(app: Celery) -> None:
    tasks = [LineTask(0, 0, 5), LineTask(7, 35, 40), LineTask(8, 40, 43)]

    written = [
        readable(json.loads(message))
        for message in LineMessages(app, NAME, QUEUE).write(BATCH, tasks, "first", options_of(app))
    ]

    assert written == [written_by_celery(app, task) for task in tasks]


def test_messages_of_two_batches_share_no_value_of_a_batch(app: Celery) -> None:
    messages = LineMessages(app, NAME, QUEUE)
    task = LineTask(3, 15, 20)

    written = [
        [readable(json.loads(message)) for message in messages.write(batch_id, [task], "first", options_of(app))]
        for batch_id in ("batch_1", "batch_2")
    ]

    assert written == [[written_by_celery(app, task, batch_id)] for batch_id in ("batch_1", "batch_2")]


def test_each_message_has_a_tag_of_its_own(app: Celery) -> None:
    tasks = [LineTask(number, number, number + 1) for number in range(20)]

    messages = LineMessages(app, NAME, QUEUE).write(BATCH, tasks, "first", options_of(app))

    assert len({json.loads(message)["properties"]["delivery_tag"] for message in messages}) == 20


def test_the_leftover_of_a_broken_off_writer_is_not_taken_for_a_message(app: Celery) -> None:
    written_by_another = LineMessages(app, NAME, QUEUE)
    with Connection("memory://") as connection, connection.channel() as opened:
        channel: Any = opened
        channel.queue_declare(QUEUE)
        channel._put(QUEUE, {"body": "of another", "headers": {}, "properties": {}})

    (message,) = written_by_another.write(BATCH, [LineTask(0, 0, 1)], "first", options_of(app))

    assert readable(json.loads(message))["body"][0][0] == BATCH
