"""What we ask of Celery's chord: a real worker counts the parts, and the callbacks are left in control's queue.

The lines are those of no batch, so that each task returns at once.
"""

import json
import time
from collections.abc import Iterator

import pytest

from app.adapters.queue import FILES_QUEUE, FINALIZE, CeleryQueue, lines_queue
from app.adapters.roster import RedisRoster
from app.domain import ids
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Delivery, LineTask
from tests.integration.pipeline import Pipeline
from tests.integration.processes import until

QUEUE = lines_queue(DEFAULT_UPSTREAM)
pytestmark = pytest.mark.integration

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    pipeline = Pipeline(None)
    try:
        pipeline.start("worker-1")
        yield pipeline
    finally:
        pipeline.end()


@pytest.fixture
def queue(pipeline: Pipeline) -> CeleryQueue:
    return pipeline.queue


@pytest.fixture
def batch_id(pipeline: Pipeline) -> str:
    return ids.new_batch_id()


def tasks(first: int, end: int) -> list[LineTask]:
    return [LineTask(number, number, number + 1) for number in range(first, end)]


def callbacks(pipeline: Pipeline, batch_id: str) -> int:
    """Return how often the batch's callback was sent."""
    messages = [json.loads(message)["headers"] for message in pipeline.redis.lrange(FILES_QUEUE, 0, -1)]
    return sum(headers["task"] == FINALIZE and batch_id in headers["argsrepr"] for headers in messages)


def await_callback(pipeline: Pipeline, batch_id: str) -> None:
    until(lambda: callbacks(pipeline, batch_id), WITHIN_S, "the callback is sent")


def await_idle(pipeline: Pipeline) -> None:
    """Return once no line task waits and none is at work."""

    def is_idle() -> bool:
        return not pipeline.redis.llen(QUEUE) and not pipeline.redis.hlen("unacked")

    until(is_idle, WITHIN_S, "all tasks have returned")


def test_the_callback_comes_once_when_every_part_has_returned(
    pipeline: Pipeline, queue: CeleryQueue, batch_id: str
) -> None:
    queue.open_chord(batch_id, 50)

    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 49), Delivery.FIRST, "")
    await_idle(pipeline)
    before_the_last = callbacks(pipeline, batch_id)
    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(49, 50), Delivery.FIRST, "")

    await_callback(pipeline, batch_id)
    await_idle(pipeline)
    assert before_the_last == 0
    assert callbacks(pipeline, batch_id) == 1


def test_parts_that_are_published_twice_count_once(pipeline: Pipeline, queue: CeleryQueue, batch_id: str) -> None:
    queue.open_chord(batch_id, 100)

    for _ in range(2):
        queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 60), Delivery.AGAIN, "")
    await_idle(pipeline)
    before_the_rest = callbacks(pipeline, batch_id)
    for _ in range(2):
        queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(60, 100), Delivery.AGAIN, "")

    await_callback(pipeline, batch_id)
    await_idle(pipeline)
    assert before_the_rest == 0
    assert callbacks(pipeline, batch_id) == 1


@pytest.mark.parametrize("is_closed_last", [True, False])
def test_a_closed_chord_ends_with_what_was_published(
    pipeline: Pipeline, queue: CeleryQueue, batch_id: str, is_closed_last: bool
) -> None:
    queue.open_chord(batch_id, 1_000)

    if not is_closed_last:
        queue.close_chord(batch_id, 30, 1_000)
        await_idle(pipeline)
        assert callbacks(pipeline, batch_id) == 0
    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 30), Delivery.FIRST, "")
    await_idle(pipeline)
    if is_closed_last:
        assert callbacks(pipeline, batch_id) == 0
        queue.close_chord(batch_id, 30, 1_000)

    await_callback(pipeline, batch_id)
    await_idle(pipeline)
    assert callbacks(pipeline, batch_id) == 1


def test_a_chord_that_was_closed_stays_closed(pipeline: Pipeline, queue: CeleryQueue, batch_id: str) -> None:
    queue.open_chord(batch_id, 1_000)
    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 10), Delivery.FIRST, "")

    queue.close_chord(batch_id, 10, 1_000)
    # By a refill or a repair that had read the batch before.
    queue.open_chord(batch_id, 1_000)

    await_callback(pipeline, batch_id)
    await_idle(pipeline)
    assert callbacks(pipeline, batch_id) == 1


def test_a_chord_that_is_closed_twice_ends_once(pipeline: Pipeline, queue: CeleryQueue, batch_id: str) -> None:
    queue.open_chord(batch_id, 1_000)
    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 10), Delivery.FIRST, "")
    await_idle(pipeline)

    for _ in range(2):
        queue.close_chord(batch_id, 10, 1_000)

    await_callback(pipeline, batch_id)
    await_idle(pipeline)
    assert callbacks(pipeline, batch_id) == 1


def test_after_a_flush_the_same_parts_published_again_end_the_chord(
    pipeline: Pipeline, queue: CeleryQueue, batch_id: str
) -> None:
    queue.open_chord(batch_id, 40)
    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 25), Delivery.FIRST, "")
    await_idle(pipeline)

    pipeline.redis.flushall()
    queue.open_chord(batch_id, 40)
    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 40), Delivery.AGAIN, "")

    await_callback(pipeline, batch_id)


def test_after_a_flush_every_message_finds_its_queue(pipeline: Pipeline, queue: CeleryQueue, batch_id: str) -> None:
    queue.validate(batch_id)

    pipeline.redis.flushall()
    queue.validate(batch_id)
    queue.refill()
    queue.finalize(batch_id)

    messages = [json.loads(message)["headers"]["task"] for message in pipeline.redis.lrange(FILES_QUEUE, 0, -1)]
    assert messages == [FINALIZE]
    assert pipeline.redis.llen("files.validate") == 1
    assert pipeline.redis.llen("ticks.refill") == 1
    assert queue.has_file_messages()


def test_a_forgotten_chord_leaves_no_key(pipeline: Pipeline, queue: CeleryQueue, batch_id: str) -> None:
    queue.open_chord(batch_id, 10)
    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 5), Delivery.FIRST, "")
    await_idle(pipeline)
    before = pipeline.redis.keys(f"*{ids.group_id(batch_id)}*")

    queue.forget(batch_id)

    assert before
    assert pipeline.redis.keys(f"*{ids.group_id(batch_id)}*") == []


def test_tasks_that_wait_are_known_by_their_ids(pipeline: Pipeline, queue: CeleryQueue, batch_id: str) -> None:
    worker = pipeline.processes["worker-1"]
    assert worker.terminate(15) == 0

    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 3), Delivery.FIRST, "")

    assert queue.queued_tasks() == {ids.task_id(batch_id, number) for number in range(3)}
    pipeline.ensure("worker-1")


def test_queues_for_upstreams_that_there_are_no_more_are_deleted(
    pipeline: Pipeline, queue: CeleryQueue, batch_id: str
) -> None:
    before = CeleryQueue(pipeline.sender, pipeline.redis, ("gone",))
    before.publish_lines(batch_id, "gone", tasks(0, 3), Delivery.FIRST, "")
    had_some = pipeline.redis.llen(lines_queue("gone"))

    queue.drop_unknown_queues()

    assert had_some == 3
    assert not pipeline.redis.exists(lines_queue("gone"))


def test_chords_are_listed_and_dropped_by_their_group(pipeline: Pipeline, queue: CeleryQueue, batch_id: str) -> None:
    queue.open_chord(batch_id, 3)
    kept = ids.new_batch_id()
    queue.open_chord(kept, 3)

    assert {ids.group_id(batch_id), ids.group_id(kept)} <= queue.chords()
    queue.drop_chords([ids.group_id(batch_id)])

    assert ids.group_id(batch_id) not in queue.chords()
    assert ids.group_id(kept) in queue.chords()


def test_messages_of_ours_taken_by_nobody_alive_are_found_and_dropped(
    pipeline: Pipeline, queue: CeleryQueue, batch_id: str
) -> None:
    assert pipeline.processes["worker-1"].terminate(15) == 0
    pipeline.redis.delete(QUEUE)
    queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 1), Delivery.FIRST, "")
    lines = json.loads(pipeline.redis.rpop(QUEUE))
    # As kombu writes them: the message with its exchange and routing key, and its instant.
    foreign = lines | {"headers": lines["headers"] | {"task": "somebody.elses"}}
    for tag, message, taken_at in (
        ("old", lines, 1.0),
        ("foreign", foreign, 2.0),
        ("malformed", {"headers": None}, 3.0),
        # By a worker whose clock is a day ahead.
        ("new", lines, time.time() + 86_400),
    ):
        pipeline.redis.hset("unacked", tag, json.dumps([message, "", QUEUE]))
        pipeline.redis.zadd("unacked_index", {tag: taken_at})

    old = {message.tag: message for message in queue.unacked(3)}

    assert (old["old"].task_id, old["old"].is_lines) == (ids.task_id(batch_id, 0), True)
    # Garbage is found as well: nobody else writes here, and it would be in the way of what comes after it.
    assert old.keys() == {"old", "foreign", "malformed"}
    assert {"old", "new"} <= {message.tag for message in queue.unacked(10_000)}
    queue.drop_unacked(["old", "new", "foreign", "malformed"])
    assert {"old", "new", "foreign", "malformed"}.isdisjoint({message.tag for message in queue.unacked(10_000)})
    pipeline.ensure("worker-1")


def test_tasks_of_a_batch_that_was_fenced_after_they_were_decided_on_are_refused(
    pipeline: Pipeline, queue: CeleryQueue, batch_id: str
) -> None:
    roster = RedisRoster(pipeline.redis)
    before = roster.fences([batch_id])[batch_id]
    roster.fence([batch_id])
    since = roster.fences([batch_id])[batch_id]
    queue.open_chord(batch_id, 1)

    is_refused = not queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 1), Delivery.FIRST, before)
    callbacks_then = callbacks(pipeline, batch_id)
    is_taken = queue.publish_lines(batch_id, DEFAULT_UPSTREAM, tasks(0, 1), Delivery.AGAIN, since)

    assert (is_refused, callbacks_then, is_taken) == (True, 0, True)
    await_callback(pipeline, batch_id)
