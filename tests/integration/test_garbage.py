"""Garbage in the broker: in every queue, and in every key that a deployment reads."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app.adapters.queue import FILES_QUEUE, LINES_QUEUE, RUN_LINES, TICKS_QUEUE, lines_queue
from app.domain.lifecycle import Status
from app.domain.upstream import DEFAULT_UPSTREAM
from tests.integration.pipeline import Pipeline, request_lines
from tests.integration.processes import until
from workers.schedule import QUEUES_OF_KINDS

pytestmark = pytest.mark.integration

QUEUES = (
    *(TICKS_QUEUE, FILES_QUEUE, LINES_QUEUE, lines_queue(DEFAULT_UPSTREAM)),
    *(name for names in QUEUES_OF_KINDS.values() for name in names),
)


def message(task: str = RUN_LINES, arguments: Any = None, **parts: Any) -> dict[str, Any]:
    """Return a message as Celery writes it, with these parts in place of its own."""
    body = [["batch_x", 0, 0, 1, "first", 0.0] if arguments is None else arguments, {}, {}]
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"id": "task-x", "task": task, "lang": "py"},
        "properties": {
            "delivery_tag": "tag-x",
            "delivery_info": {"exchange": "", "routing_key": "x"},
            "body_encoding": "base64",
        },
        **parts,
    }


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\x00\xff\x1b[31m\x07 not JSON \r\n",
    "a number": b"5",
    "an empty object": b"{}",
    "deep": b"[" * 8_000,
    "huge": b'{"body": "' + b"x" * 5_000_000 + b'"}',
    "no properties": json.dumps(message(properties=None)).encode(),
    "a tag that is a number": json.dumps(message(properties={"delivery_tag": 5, "delivery_info": {}})).encode(),
    "no headers": json.dumps(message(headers=None)).encode(),
    "no task": json.dumps(message(headers={"id": "x"})).encode(),
    "a task that is a list": json.dumps(message(headers={"id": "x", "task": []})).encode(),
    "a body that is no base64": json.dumps(message(body="%%%")).encode(),
    "a body of another form": json.dumps(message(body=base64.b64encode(b'{"args": 1}').decode())).encode(),
    "somebody else's task": json.dumps(message("somebody.elses", ["x"])).encode(),
    "a task of another version": json.dumps(message("control.of_tomorrow", ["x"])).encode(),
    "a task of lines of another version": json.dumps(message("lines.of_tomorrow", ["x"])).encode(),
    "too few arguments": json.dumps(message(RUN_LINES, ["x"])).encode(),
    "arguments of other types": json.dumps(message(RUN_LINES, [1, "a", None, [], {}, "b"])).encode(),
    "a range that ends before it begins": json.dumps(message(RUN_LINES, ["x", 0, 9, 3, "first", 0.0])).encode(),
    "a range without end": json.dumps(message(RUN_LINES, ["x", 0, 0, 10**15, "first", 0.0])).encode(),
    "a batch that there is not": json.dumps(message(RUN_LINES, ["batch_x", 0, 0, 1, "first", 0.0])).encode(),
    "an id that is a number": json.dumps(message("control.validate", [5])).encode(),
    "no id": json.dumps(message("control.validate", [])).encode(),
    "an instant in the past": json.dumps(message(headers={"id": "x", "task": RUN_LINES, "expires": "1970"})).encode(),
    "retries that are words": json.dumps(message(headers={"id": "x", "task": RUN_LINES, "retries": "many"})).encode(),
}


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    pipeline = Pipeline(None)
    try:
        pipeline.start("control", "files", "worker-1", "beat")
        yield pipeline
    finally:
        pipeline.end()


@pytest.fixture
def pids(pipeline: Pipeline) -> Iterator[None]:
    """See that each process that ran before the test runs after it."""
    before = {name: process.pid for name, process in pipeline.processes.items()}
    yield
    assert {name: process.exit_code for name, process in pipeline.processes.items()} == dict.fromkeys(before)


def assert_a_batch_runs(pipeline: Pipeline) -> None:
    batch = pipeline.await_end(pipeline.submit(request_lines(40)))
    assert (batch.status, batch.completed) == (Status.COMPLETED, 40)


@pytest.mark.usefixtures("pids")
def test_garbage_in_every_queue_is_dropped_and_work_goes_on(pipeline: Pipeline) -> None:
    for queue in QUEUES:
        pipeline.redis.lpush(queue, *GARBAGE.values())

    assert_a_batch_runs(pipeline)

    until(lambda: not any(pipeline.redis.llen(queue) for queue in QUEUES), 60, "the queues are empty")
    said = pipeline.processes["worker-1"].said() + pipeline.processes["control"].said()
    assert "message.dropped" in said
    assert "\x1b[31m" not in said
    assert "x" * 1_000 not in said


@pytest.mark.usefixtures("pids")
def test_keys_of_another_type_than_ours_are_dropped_and_work_goes_on(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(300, "[[sleep:100]]"))
    pipeline.await_recorded(batch_id, 10)
    for key in (
        *QUEUES,
        "unacked",
        "unacked_index",
        "wylon:workers",
        f"wylon:losses:{batch_id}",
        f"wylon:missing:{batch_id}",
    ):
        pipeline.redis.delete(key)
        pipeline.redis.set(key, "garbage")

    batch = pipeline.await_end(batch_id)

    assert (batch.status, batch.completed) == (Status.COMPLETED, 300)
    assert_a_batch_runs(pipeline)


@pytest.mark.usefixtures("pids")
def test_values_that_cannot_be_read_are_dropped_and_work_goes_on(pipeline: Pipeline) -> None:
    pipeline.redis.sadd("wylon:workers", b"\xff\xfe", "ghost")
    for name in ("ghost", "\udcff\udcfe"):
        pipeline.redis.set(f"wylon:worker:{name}".encode("utf-8", "surrogateescape"), b"\x00 garbage")
    for number in range(2_000):
        pipeline.redis.zadd("unacked_index", {f"garbage-{number}": time.time() - 1_000})
    pipeline.redis.hset("unacked", "garbage-0", b"\xff")
    batch_id = pipeline.submit(request_lines(300, "[[sleep:100]]"))
    pipeline.redis.hset(f"wylon:losses:{batch_id}", "many", "some")
    pipeline.redis.set(f"wylon:missing:{batch_id}", b"\x00")

    batch = pipeline.await_end(batch_id)

    assert (batch.status, batch.completed) == (Status.COMPLETED, 300)
