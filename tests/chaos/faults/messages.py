"""Messages that are delivered again, at any time."""

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from app.adapters import queue
from app.adapters.queue import FILES_QUEUE, LINES_QUEUE, TICKS_QUEUE, lines_queue, open_sender
from app.domain.broker_address import read_broker_address
from tests.chaos.faults.registry import FAULTS, Fault, fault
from tests.chaos.house import UPSTREAMS
from tests.chaos.scene import Scene
from workers import schedule

_QUEUES = (
    *(TICKS_QUEUE, FILES_QUEUE, LINES_QUEUE),
    *(name for names in schedule.QUEUES_OF_KINDS.values() for name in names),
    *map(lines_queue, UPSTREAMS),
)
# Whatever is not told to another process is told to that of files.
_OF_TICKS = (queue.CLOSE, queue.REFILL, schedule.EXPIRE, schedule.REPAIR)
_COPIES_OF_A_KIND = 5
_SPAN_S = 4.0


@fault("messages-twice")
def messages_twice(scene: Scene) -> None:
    """Copy some of each kind that is seen, waiting or taken, back into its queue."""
    broker: Any = scene.house.redis()
    copied: dict[str, int] = {}
    until = time.monotonic() + _SPAN_S
    while time.monotonic() < until:
        for name, message, queue_name in _seen(broker):
            if copied.get(name, 0) < _COPIES_OF_A_KIND:
                copied[name] = copied.get(name, 0) + 1
                # A line that a copy finds in flight is called by both; batches of this size have a task for each line.
                scene.copied_lines += name == queue.RUN_LINES
                broker.lpush(queue_name, message)
        scene.wait(0.05)
    scene.notes.append(f"copied {copied}")


def _seen(broker: Any) -> Iterator[tuple[str, bytes, str]]:
    for queue_name in _QUEUES:
        for entry in broker.lrange(queue_name, 0, -1):
            message = json.loads(entry)
            yield message["headers"]["task"], _delivered_again(message), queue_name
    for entry in broker.hgetall("unacked").values():
        message, _exchange, queue_name = json.loads(entry)
        yield message["headers"]["task"], _delivered_again(message), queue_name


def _delivered_again(message: dict[str, Any]) -> bytes:
    """Return the message marked as kombu marks one that it puts back."""
    message["headers"]["redelivered"] = True
    message["properties"]["delivery_info"]["redelivered"] = True
    return json.dumps(message).encode()


def _send_for_batches(name: str, scene: Scene) -> None:
    _send(name, [[batch.id] for batch in list(scene.batches)], scene)


def _send_ticks(scene: Scene) -> None:
    for name in (schedule.EXPIRE, schedule.REPAIR, schedule.SWEEP, schedule.SWEEP_BLOBS, queue.REFILL):
        _send(name, [[], [], []], scene)


def _send(name: str, arguments: list[list[str]], scene: Scene) -> None:
    waits_in = TICKS_QUEUE if name in _OF_TICKS else FILES_QUEUE
    sender = open_sender(read_broker_address(scene.house.environ["WYLON_BROKER_URL"]), scene.house.deployment())
    try:
        for args in arguments:
            sender.send_task(name, args=args, queue=waits_in, ignore_result=True)
    finally:
        sender.close()


for _name in (queue.VALIDATE, queue.FINALIZE, queue.CLOSE):
    FAULTS.append(Fault(f"{_name.rpartition('.')[2]}-unasked", partial(_send_for_batches, _name)))
FAULTS.append(Fault("ticks-unasked", _send_ticks))
