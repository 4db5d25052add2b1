"""What a worker process does with the messages of line tasks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.adapters.queue import LINES_QUEUE, open_sender
from app.config import load_settings
from workers.line_process import LineProcess

BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LineProcess]:
    environ = {"WYLON_DATA": str(tmp_path), "WYLON_BROKER_URL": BROKER, "WYLON_UPSTREAM_URL": "http://127.0.0.1:1/v1"}
    with open_sender(BROKER) as sender:
        # Its threads are not started: it reaches neither broker nor database.
        yield LineProcess(load_settings(environ), sender, "worker-1")


def test_a_line_task_in_a_queue_of_no_upstream_ends_without_its_lines_which_repair_then_misses(
    process: LineProcess,
) -> None:
    request: dict[str, Any] = {
        "id": "task",
        "args": ["batch_1", 0, 0, 50, "first", 0.0],
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


def test_one_that_is_here_already_in_its_own_queue_stays_in_hand(process: LineProcess) -> None:
    (queue,) = process.queues
    process.receive("task", queue, 50)

    process.receive("task", LINES_QUEUE, 50)
    process.end("task", LINES_QUEUE)

    assert process.taken.task_ids() == ("task",)
