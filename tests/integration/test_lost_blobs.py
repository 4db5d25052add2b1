"""Bytes that are gone from the storage while a batch runs, as after a restore with older files."""

import pytest

from app.domain.lifecycle import Status
from app.domain.limits import MIB
from tests.integration.databases import on_each_database
from tests.integration.pipeline import TENANT, Pipeline, custom_ids, request_lines
from tests.integration.processes import until

pytestmark = [pytest.mark.integration, on_each_database]

LINES = 200
_MOST_LOG_BYTES = MIB // 2


def running(pipeline: Pipeline) -> str:
    """Return a batch of which some lines are done and most are not handed out or wait."""
    batch_id = pipeline.submit(request_lines(LINES, "[[sleep:150]]"))
    pipeline.await_recorded(batch_id, 5)
    return batch_id


def log_bytes(pipeline: Pipeline) -> int:
    return sum(path.stat().st_size for path in pipeline.folder.glob("*.log"))


def end_workers(pipeline: Pipeline) -> None:
    for name in ("worker-1", "worker-2"):
        pipeline.processes[name].end()


def test_a_batch_whose_plan_is_lost_goes_on_with_a_plan_in_the_same_order(pipeline: Pipeline) -> None:
    batch_id = running(pipeline)
    before = log_bytes(pipeline)
    end_workers(pipeline)
    pipeline.stores.blobs.delete(pipeline.batch(batch_id).plan_blob or "")
    # They hold nothing open by which they could read it.
    pipeline.start("worker-1", "worker-2")

    batch = pipeline.await_end(batch_id)

    assert (batch.status, batch.completed) == (Status.COMPLETED, LINES)
    assert custom_ids(pipeline.lines_of(batch.output_file_id)) == [f"id-{number}" for number in range(LINES)]
    assert log_bytes(pipeline) - before < _MOST_LOG_BYTES


def test_a_batch_whose_input_is_lost_fails_and_keeps_its_results(pipeline: Pipeline) -> None:
    batch_id = running(pipeline)
    before = log_bytes(pipeline)
    end_workers(pipeline)
    pipeline.stores.blobs.delete(pipeline.batch(batch_id).input_blob or "")
    pipeline.start("worker-1", "worker-2")

    batch = pipeline.await_end(batch_id)

    assert (batch.status, [error.code for error in batch.errors]) == (Status.FAILED, ["input_missing"])
    assert len(list(pipeline.stores.results.read(batch_id))) == batch.recorded > 0
    assert log_bytes(pipeline) - before < _MOST_LOG_BYTES


def test_a_batch_that_is_cancelled_after_its_plan_was_lost_names_every_line(pipeline: Pipeline) -> None:
    batch_id = running(pipeline)
    end_workers(pipeline)
    pipeline.stores.blobs.delete(pipeline.batch(batch_id).plan_blob or "")
    pipeline.batches.cancel(TENANT, batch_id)
    pipeline.start("worker-1", "worker-2")

    batch = pipeline.await_end(batch_id)

    lines = [*pipeline.lines_of(batch.output_file_id), *pipeline.lines_of(batch.error_file_id)]
    assert batch.status is Status.CANCELLED
    assert sorted(custom_ids(lines)) == sorted(f"id-{number}" for number in range(LINES))


def test_a_storage_that_is_away_for_a_while_fails_no_batch(pipeline: Pipeline) -> None:
    batch_id = running(pipeline)
    root = pipeline.settings.storage_folder
    before = log_bytes(pipeline)
    aside = root.with_name("aside")
    root.rename(aside)
    root.mkdir()
    waiting = pipeline.batches.get(TENANT, batch_id)
    until(lambda: "lines.unread" in log_of(pipeline) or pipeline.batch(batch_id).recorded >= LINES, 30, "a look")

    root.rmdir()
    aside.rename(root)

    batch = pipeline.await_end(batch_id)
    assert waiting.status is Status.IN_PROGRESS
    assert (batch.status, batch.completed) == (Status.COMPLETED, LINES)
    assert log_bytes(pipeline) - before < _MOST_LOG_BYTES


def log_of(pipeline: Pipeline) -> str:
    return "".join((pipeline.folder / f"worker-{number}.log").read_text() for number in (1, 2))
