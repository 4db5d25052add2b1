"""A consumer over a real broker, whose loop is a test's own."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from kombu import Connection, Queue

from app.cli.up.broker import embed_broker
from tests.integration.processes import START_WITHIN_S, until
from workers.transport import Transport

QUEUE = "some"


@contextmanager
def open_broker(environ: Mapping[str, str] | None = None) -> Iterator[redis.Redis]:
    """Run a broker, with these variables beside the usual ones; yields a client of it."""
    folder = Path(tempfile.mkdtemp(prefix="wylon-"))
    embedded = embed_broker(folder)
    process = subprocess.Popen(embedded.command(), stdout=subprocess.DEVNULL, env={**os.environ, **(environ or {})})
    client = redis.Redis(unix_socket_path=str(embedded.socket))

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        until(answers, START_WITHIN_S, "the broker answers")
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


class CanParse(Transport):
    """Takes the address of a socket as it is."""

    can_parse_url = True


class House:
    """A consumer of some queues on one channel."""

    def __init__(self, broker: redis.Redis, *queues: str) -> None:
        self.broker = broker
        self.queues = queues or (QUEUE,)
        broker.flushall()
        path = broker.connection_pool.connection_kwargs["path"]
        self.connection = Connection(transport=CanParse, virtual_host="0", hostname=f"socket://{path}")
        self.channel: Any = self.connection.channel()
        self.messages: list[Any] = []
        self.calls: list[Callable[[], None]] = []
        self.channel.basic_qos(prefetch_count=1_000)

    def publish(self, messages: int, queue: str = QUEUE) -> None:
        producer = self.connection.Producer(serializer="json")
        for number in range(messages):
            task = "lines.end_chord" if queue.startswith("lines") else "control.close"
            headers = {"id": f"task-{number}", "task": task}
            producer.publish([[str(number)], {}, {}], routing_key=queue, headers=headers)

    def consuming(self, wanted: Callable[[str], int | None] | None) -> Any:
        """Return a consumer to be entered."""
        self.channel.qos.wanted = wanted
        queues = [Queue(name, routing_key=name) for name in self.queues]
        return self.connection.Consumer(
            queues, channel=self.channel, on_message=self.messages.append, auto_declare=False
        )

    def drain_until(self, messages: int) -> None:
        while len(self.messages) < messages:
            self.connection.drain_events(timeout=5)

    def open_request(self) -> None:
        """Have the channel wait for a message."""
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=0.01)
        assert self.channel._in_poll

    def take(self, messages: int, *, wanted: Callable[[str], int | None] | None) -> None:
        """Consume until there are so many."""
        with self.consuming(wanted):
            self.drain_until(messages)

    def gather(self) -> None:
        self.channel.qos.call_later = lambda _seconds, call: self.calls.append(call)

    def noted(self) -> dict[str, Any]:
        return {str(tag, "utf-8"): json.loads(message) for tag, message in self.broker.hgetall("unacked").items()}
