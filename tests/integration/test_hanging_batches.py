"""Batches that come while all lines of others hang, on workers that hold more lines than they may call for."""

from collections.abc import Iterator

import pytest

from app.domain.lifecycle import Status
from tests.integration.pipeline import TENANT, Pipeline, request_lines
from tests.integration.processes import until

pytestmark = pytest.mark.integration

SLOTS = 16
KEPT = SLOTS // 8


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    pipeline = Pipeline(None, environ={"WYLON_CONCURRENCY": str(SLOTS)})
    try:
        pipeline.start("control", "files", "beat", "worker-1")
        yield pipeline
    finally:
        pipeline.end()


def test_they_end_soon(pipeline: Pipeline) -> None:
    hanging = [pipeline.submit(request_lines(300, f"[[sleep:600000]] {number}")) for number in range(2)]
    until(lambda: pipeline.upstream_stats()["in_flight"] >= SLOTS - KEPT, 30, "the calls that one batch may have hang")

    coming = [pipeline.submit(request_lines(10, f"coming {number}")) for number in range(6)]

    for batch_id in coming:
        ended = pipeline.await_end(batch_id)
        assert (ended.status, ended.completed) == (Status.COMPLETED, 10)
    for batch_id in hanging:
        pipeline.batches.cancel(TENANT, batch_id)
        assert pipeline.await_end(batch_id).status is Status.CANCELLED
