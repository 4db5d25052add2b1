"""Lines that wait in a worker whose calls all hang, while another worker has nothing to do."""

from collections.abc import Iterator

import pytest

from app.domain.lifecycle import Status
from tests.integration.pipeline import CONCURRENCY, TENANT, Pipeline, custom_ids, request_lines
from tests.integration.processes import until

pytestmark = pytest.mark.integration

WAITING = 6


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    pipeline = Pipeline(None)
    try:
        pipeline.start("control", "files", "beat", "worker-1")
        yield pipeline
    finally:
        pipeline.end()


def hang(pipeline: Pipeline, lines: int, calls: int) -> str:
    """Submit a batch whose lines hang; returns once so many calls hang in all."""
    batch_id = pipeline.submit(request_lines(lines, f"[[sleep:600000]] {lines}"))
    until(lambda: pipeline.upstream_stats()["in_flight"] == calls, 30, "these calls hang")
    return batch_id


def test_they_are_run_by_the_other_worker_and_no_line_twice(pipeline: Pipeline) -> None:
    # One call is kept for a batch that comes.
    hanging = [hang(pipeline, CONCURRENCY - 1, CONCURRENCY - 1), hang(pipeline, 1, CONCURRENCY)]
    waiting = pipeline.submit(request_lines(WAITING, "waiting"))
    until(lambda: pipeline.tasks_held() >= CONCURRENCY + WAITING, 60, "the worker holds the lines that wait")

    pipeline.start("worker-2")
    ended = pipeline.await_end(waiting)

    assert (ended.status, ended.completed) == (Status.COMPLETED, WAITING)
    assert custom_ids(pipeline.lines_of(ended.output_file_id)) == [f"id-{number}" for number in range(WAITING)]
    assert "event=tasks.given_back" in pipeline.processes["worker-1"].said()
    assert pipeline.upstream_stats()["repeats"] == 0
    for batch_id in hanging:
        pipeline.batches.cancel(TENANT, batch_id)
        assert pipeline.await_end(batch_id).status is Status.CANCELLED
