"""What a worker process does with the messages of line tasks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.adapters.queue import LINES_QUEUE, open_sender
from app.config import load_settings
from app.domain import ids
from app.domain.plan import PlanEntry, pack_entry
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Delivery, LineTask, Planned, Progress
from app.wiring.setup import prepare
from app.wiring.stores import deployment_of
from tests.unit.services.pipeline_house import NOW, new_batch
from tests.unit.workers.waiting import until
from workers.line_process import LineProcess, line_task_of

BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LineProcess]:
    environ = {"WYLON_DATA": str(tmp_path), "WYLON_BROKER_URL": BROKER, "WYLON_UPSTREAM_URL": "http://127.0.0.1:1/v1"}
    settings = load_settings(environ)
    prepare(settings)
    with open_sender(settings.broker, deployment_of(settings)) as sender:
        # Its threads are not started: it reaches no broker.
        yield LineProcess(settings, sender, "worker-1")


def test_a_line_task_in_a_queue_of_no_upstream_ends_without_its_lines_which_repair_then_misses(
    process: LineProcess,
) -> None:
    request: dict[str, Any] = {
        "id": "task",
        "args": ["batch_1", 0, 0, 50, "first"],
        "delivery_info": {"routing_key": LINES_QUEUE},
    }
    settled: list[str] = []

    with capture_logs() as logs:
        process.receive("task", LINES_QUEUE, 50)
        process.begin(request, lambda: settled.append("task"))
    process.end("task", LINES_QUEUE)

    assert settled == ["task"]
    assert [entry["event"] for entry in logs] == ["task.passed_over"]
    assert process.taken.task_ids() == ()


def test_a_task_runs_no_lines_that_the_plan_gives_to_another_upstream(process: LineProcess) -> None:
    """A power cut may take away a plan whose messages stay in a Redis elsewhere, and the next plan differ from it."""
    stores, (queue,) = process._lines.stores, process.queues
    plan = b"".join(pack_entry(PlanEntry(n, 3 * n, 2, upstream=n // 2)) for n in range(4))
    for key, data in (("files/in", b"{}\n" * 4), ("plans/one", plan)):
        writer = stores.blobs.create(key)
        writer.write(data)
        writer.commit()
    stores.batches.add(new_batch())
    stores.batches.accept("batch_1", Planned("plans/one", 2, [("elsewhere", 2), (DEFAULT_UPSTREAM, 2)], "small"), NOW)
    settled: list[str] = []

    process._lease.extend(process._lease.now())
    process.take(process.term())
    request = {
        "id": ids.task_id("batch_1", 0),
        "args": ["batch_1", 0, 0, 2, "first"],
        "delivery_info": {"routing_key": queue},
    }

    # A line that ran would be lost on the engine, which is not started, and the log would say so.
    with capture_logs() as logs:
        process.receive(request["id"], queue, 2)
        process.begin(request, lambda: settled.append("task"))

    assert settled == ["task"]
    assert logs == []


def test_recording_results_waits_for_no_broker(process: LineProcess) -> None:
    """The writer's thread tells the progress, and a broker that is away would hold up the next results."""
    whole = Progress("batch_1", True, True, 0, DEFAULT_UPSTREAM)

    with capture_logs() as logs:
        process._on_progress([whole])
        until(lambda: "refill.not_asked" in [entry["event"] for entry in logs])


def test_one_that_is_here_already_in_its_own_queue_stays_in_hand(process: LineProcess) -> None:
    (queue,) = process.queues
    process.receive("task", queue, 50)

    process.receive("task", LINES_QUEUE, 50)
    process.end("task", LINES_QUEUE)

    assert process.taken.task_ids() == ("task",)


def test_a_task_takes_room_from_the_moment_it_comes_until_it_ends(process: LineProcess) -> None:
    (queue,), (lane,) = process.queues, process._lanes.values()
    empty = lane.room.tasks_wanted()

    process.receive("task", queue, 50)
    with_one = lane.room.tasks_wanted()
    process.end("task", queue)

    assert with_one < empty


@pytest.mark.parametrize(
    ("sent", "is_redelivered", "how"),
    [
        ("first", False, Delivery.FIRST),
        ("first", True, Delivery.AGAIN),
        ("again", True, Delivery.AGAIN),
        ("alone", True, Delivery.ALONE),
    ],
)
def test_a_first_try_that_is_delivered_again_looks_first_which_lines_have_a_result(
    sent: str, is_redelivered: bool, how: Delivery
) -> None:
    request = {"args": ["batch_1", 3, 30, 40, sent], "delivery_info": {"redelivered": is_redelivered}}

    assert line_task_of(request) == ("batch_1", LineTask(3, 30, 40), how)


def test_a_message_of_an_older_version_with_the_instant_at_its_end_is_read() -> None:
    request = {"args": ["batch_1", 3, 30, 40, "first", 1_700_000_000.0], "delivery_info": {}}

    assert line_task_of(request) == ("batch_1", LineTask(3, 30, 40), Delivery.FIRST)
