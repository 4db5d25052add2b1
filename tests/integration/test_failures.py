"""Processes that die and a broker that forgets: every batch still ends, each line once."""

import time

import pytest
from sqlalchemy import text

from app.domain.errors import Unavailable
from app.domain.lifecycle import Status
from app.wiring.tick_watch import check_ticks
from tests.integration.databases import on_each_database
from tests.integration.pipeline import CONCURRENCY, TENANT, Pipeline, custom_ids, request_lines
from tests.integration.processes import until

pytestmark = [pytest.mark.integration, on_each_database]

# A batch that is alone leaves an eighth of each worker's calls to whoever comes.
BOTH_WORKERS = 2 * (CONCURRENCY - CONCURRENCY // 8)


@pytest.fixture(autouse=True)
def _all_run(pipeline: Pipeline) -> None:
    pipeline.ensure("control", "files", "worker-1", "worker-2", "beat")
    pipeline.reset_upstream_stats()


def assert_each_line_once(pipeline: Pipeline, batch_id: str, lines: int) -> None:
    """Wait for the end, which has every line in the output, in order."""
    batch = pipeline.await_end(batch_id)
    output = pipeline.lines_of(batch.output_file_id)
    assert (batch.status, batch.error_file_id) == (Status.COMPLETED, None)
    assert (batch.total, batch.completed, batch.failed) == (lines, lines, 0)
    assert custom_ids(output) == [f"id-{number}" for number in range(lines)]


def await_in_flight(pipeline: Pipeline, calls: int) -> None:
    until(lambda: pipeline.upstream_stats()["in_flight"] >= calls, 30, f"{calls} calls are in flight")


def test_the_lines_of_a_killed_worker_run_again(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(120, "[[sleep:200]]"))
    pipeline.await_recorded(batch_id, 20)
    await_in_flight(pipeline, BOTH_WORKERS)

    pipeline.processes["worker-1"].kill()

    assert_each_line_once(pipeline, batch_id, 120)
    # Calls that were in flight are made again, and those whose answers were not committed yet.
    assert pipeline.upstream_stats()["repeats"] <= 2 * CONCURRENCY


def test_a_flushed_broker_is_filled_again(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(150, "[[sleep:200]]"))
    pipeline.await_recorded(batch_id, 20)

    pipeline.redis.flushall()

    assert_each_line_once(pipeline, batch_id, 150)


def test_a_worker_that_is_asked_to_end_gives_its_lines_back(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(150, "[[sleep:300]]"))
    pipeline.await_recorded(batch_id, 20)
    await_in_flight(pipeline, BOTH_WORKERS)
    began_at = time.monotonic()

    exit_code = pipeline.processes["worker-1"].terminate(within_s=20)

    assert exit_code == 0
    assert time.monotonic() - began_at < 10
    assert_each_line_once(pipeline, batch_id, 150)
    assert pipeline.upstream_stats()["repeats"] == 0


def test_control_may_die_while_a_batch_runs(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(150, "[[sleep:100]]"))
    pipeline.await_recorded(batch_id, 20)

    pipeline.processes["control"].kill()
    pipeline.ensure("control")

    assert_each_line_once(pipeline, batch_id, 150)


def test_a_killed_beat_shows_in_a_short_look_at_the_ticks(pipeline: Pipeline) -> None:
    def are_done() -> bool:
        try:
            check_ticks(pipeline.stores.ticks)
        except Unavailable:
            return False
        return True

    until(are_done, 60, "all ticks are done")

    pipeline.processes["beat"].kill()

    # A tick that waited may still be done.
    until(lambda: not are_done(), 60, "the silence shows")


def test_two_beats_do_no_harm(pipeline: Pipeline) -> None:
    pipeline.start("beat-2")
    batch_ids = [pipeline.submit(request_lines(60, f"[[sleep:50]] {name}")) for name in ("a", "b")]

    for batch_id in batch_ids:
        assert_each_line_once(pipeline, batch_id, 60)

    pipeline.processes["beat-2"].end()
    assert pipeline.upstream_stats()["repeats"] == 0


def test_a_batch_waits_for_workers_that_all_died(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(40, "[[sleep:200]]"))
    pipeline.await_recorded(batch_id, 5)
    for name in ("worker-1", "worker-2"):
        pipeline.processes[name].kill()

    pipeline.ensure("worker-1")

    assert_each_line_once(pipeline, batch_id, 40)


def test_a_finalizer_that_was_killed_is_followed_by_one_that_writes_the_files(pipeline: Pipeline) -> None:
    # Answers echo what they are asked: some 50 MB to be written.
    lines = request_lines(1_000, "x" * 50_000)
    batch_id = _kill_while_finalizing(pipeline, lines)
    pipeline.ensure("files")
    # What the dead one held for half a minute is free now.
    with pipeline.stores.engine.begin() as connection:
        connection.execute(text("UPDATE batches SET lease_owner = NULL WHERE id = :id"), {"id": batch_id})

    assert_each_line_once(pipeline, batch_id, 1_000)
    assert pipeline.batch(batch_id).finalize_tries >= 2


def _kill_while_finalizing(pipeline: Pipeline, lines: list[bytes]) -> str:
    """Return a batch whose finalizer was killed at it; a few tries, as it may be faster than we."""
    for _ in range(5):
        batch_id = pipeline.submit(lines)
        until(lambda batch_id=batch_id: pipeline.batch(batch_id).sealed_at, 60, "finalizing begins", every_s=0.002)
        pipeline.processes["files"].kill()
        if pipeline.batch(batch_id).status is Status.FINALIZING:
            return batch_id
        pipeline.ensure("files")
    raise AssertionError("No finalizer was caught at work.")


def test_a_batch_whose_model_is_away_does_not_hold_up_another(pipeline: Pipeline) -> None:
    stuck = pipeline.submit(request_lines(600, "[[fail:503]]"))
    # Dispatch stops between 7.5 and 10.5 for each call, and as a rule some are amid one.
    until(lambda: pipeline.lines_paused() >= 7 * BOTH_WORKERS, 60, "the workers' hands are full of refused lines")

    batch_id = pipeline.submit(request_lines(30))

    assert_each_line_once(pipeline, batch_id, 30)
    assert pipeline.batch(stuck).status is Status.IN_PROGRESS
    pipeline.batches.cancel(TENANT, stuck)
    assert pipeline.await_end(stuck).status is Status.CANCELLED
