"""What passes for a message of ours: each that is sent here does."""

import json
from typing import Any

import pytest
from kombu import Connection

from app.adapters import queue
from app.adapters.broker.messages import Garbage, read_message
from app.adapters.line_messages import LineMessages
from app.adapters.queue import LINES_QUEUE, RUN_LINES, lines_queue, open_sender
from app.domain import ids
from app.domain.broker_address import read_broker_address
from app.services.ports import Delivery, LineTask
from workers import schedule

OURS = [queue.VALIDATE, queue.REFILL, queue.CLOSE, queue.FINALIZE, *schedule.SCHEDULE]


def sent(name: str, to: str, *args: str) -> bytes:
    """Return a message as an application of ours sends it."""
    sender = open_sender(read_broker_address("redis://127.0.0.1:1/0"), "some")
    with Connection("memory://") as connection, connection.channel() as opened:
        channel: Any = opened
        channel.queue_purge(to)
        producer = sender.amqp.Producer(channel, auto_declare=False)
        sender.send_task(name, args=args, queue=to, producer=producer, declare=[], ignore_result=True)
        message = json.dumps(channel._get(to)).encode()
    sender.close()
    return message


@pytest.mark.parametrize("name", OURS)
def test_every_task_that_is_sent_is_read(name: str) -> None:
    message = read_message(sent(name, "files", "batch_1"), "files")

    assert message["headers"]["task"] == name


def test_what_ends_a_chord_is_read() -> None:
    assert read_message(sent(queue.END_CHORD, LINES_QUEUE, "batch_1"), LINES_QUEUE)


@pytest.mark.parametrize("delivery", Delivery)
def test_every_line_task_that_is_published_is_read(delivery: Delivery) -> None:
    name = lines_queue("default")
    sender = open_sender(read_broker_address("redis://127.0.0.1:1/0"), "some")

    def options(batch_id: str) -> dict[str, Any]:
        callback = sender.signature(queue.FINALIZE, args=(batch_id,), immutable=True, queue="files")
        shared = {"chord": callback, "ignore_result": True, "argsrepr": "", "kwargsrepr": ""}
        return {"group_id": ids.group_id(batch_id), **shared}

    messages = list(
        LineMessages(sender, RUN_LINES, name).write("batch_1", [LineTask(3, 30, 40)], delivery.value, options)
    )

    assert [read_message(message, name)["headers"]["group_index"] for message in messages] == [3]
    sender.close()


def test_a_message_that_was_given_back_is_read() -> None:
    message = json.loads(sent(queue.CLOSE, "ticks", "batch_1"))
    message["headers"]["redelivered"] = True
    message["properties"]["delivery_info"]["redelivered"] = True

    assert read_message(json.dumps(message).encode(), "ticks")["headers"]["redelivered"]


@pytest.mark.parametrize(("name", "to"), [(queue.VALIDATE, "lines.default"), (queue.END_CHORD, "ticks")])
def test_a_task_in_a_queue_of_other_processes_is_garbage(name: str, to: str) -> None:
    with pytest.raises(Garbage, match="does not belong in this queue"):
        read_message(sent(name, to, "batch_1"), to)
