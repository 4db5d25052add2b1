"""Whole batches through real processes."""

import pytest

from app.domain.batch import Usage
from app.domain.lifecycle import Status
from tests.integration.databases import on_each_database
from tests.integration.pipeline import (
    CONCURRENCY,
    SHORT_WINDOW,
    TENANT,
    Pipeline,
    custom_ids,
    request_line,
    request_lines,
)
from tests.integration.processes import until

pytestmark = [pytest.mark.integration, on_each_database]

# What a line's content brings upon its call, and the status of its answer; None where it gets none that can be shown.
FAULTS = {
    "fine": 200,
    "[[fail:500x2]]": 200,
    "[[fail:429x1]]": 200,
    "[[fail:resetx1]]": 200,
    "[[sleep:150]]": 200,
    "[[fail:400]]": 400,
    "[[fail:404]]": 404,
    "[[fail:html]]": None,
}
LAST = "[[sleep:500]]"
STATUSES = FAULTS | {LAST: 200}


def test_every_line_of_a_mixed_batch_is_in_one_of_the_files(pipeline: Pipeline) -> None:
    # A line is known to be at fault by the answers that others get meanwhile: these come last, and for some seconds.
    kinds = [list(FAULTS)[number % len(FAULTS)] for number in range(200)] + [LAST] * 160
    lines = [request_line(f"id-{number}", f"{kind} é {number}") for number, kind in enumerate(kinds)]

    batch = pipeline.await_end(pipeline.submit(lines))

    output, errors = pipeline.lines_of(batch.output_file_id), pipeline.lines_of(batch.error_file_id)
    assert batch.status is Status.COMPLETED
    assert (batch.total, batch.completed, batch.failed) == (360, len(output), len(errors))
    assert custom_ids(output) == [f"id-{at}" for at, kind in enumerate(kinds) if STATUSES[kind] == 200]
    assert custom_ids(errors) == [f"id-{at}" for at, kind in enumerate(kinds) if STATUSES[kind] != 200]
    for line in output:
        answer = line["response"]["body"]["choices"][0]["message"]["content"]
        assert answer.endswith(f" é {line['custom_id'].removeprefix('id-')}")
        assert (line["response"]["status_code"], line["error"]) == (200, None)
    for line in errors:
        at = int(line["custom_id"].removeprefix("id-"))
        assert (line["response"] or {}).get("status_code") == STATUSES[kinds[at]]
        assert (line["error"] is None) == (line["response"] is not None)
    usages = [line["response"]["body"]["usage"] for line in output]
    assert batch.usage == Usage(
        sum(usage["prompt_tokens"] for usage in usages), 0, sum(usage["completion_tokens"] for usage in usages), 0
    )
    assert batch.model == "echo"


def test_a_file_with_a_bad_line_fails_and_nothing_runs(pipeline: Pipeline) -> None:
    pipeline.reset_upstream_stats()

    batch = pipeline.await_end(pipeline.submit([*request_lines(3), b"{broken", request_line("id-0", "twice")]))

    assert batch.status is Status.FAILED
    assert [(error.line, error.code) for error in batch.errors] == [
        (4, "invalid_json_line"),
        (5, "duplicate_custom_id"),
    ]
    assert pipeline.upstream_stats()["requests"] == 0


def test_a_cancelled_batch_keeps_what_is_done_and_breaks_off_the_rest(pipeline: Pipeline) -> None:
    quick = request_lines(10)
    # In flight for longer than any test, and more than the workers can have in flight.
    endless = [request_line(f"endless-{number}", f"[[fail:hang]] {number}") for number in range(40)]
    batch_id = pipeline.submit([*quick, *endless])
    # Not all of the quick ones: the threads of a worker race, and an endless line may take the last place before one.
    pipeline.await_recorded(batch_id, 1)
    pipeline.reset_upstream_stats()

    cancelling = pipeline.batches.cancel(TENANT, batch_id)

    batch = pipeline.await_end(batch_id)
    output = custom_ids(pipeline.lines_of(batch.output_file_id))
    errors = pipeline.lines_of(batch.error_file_id)
    submitted = [*(f"id-{number}" for number in range(10)), *(f"endless-{number}" for number in range(40))]
    assert (cancelling.status, cancelling.cancelling_at is not None) == (Status.CANCELLING, True)
    assert batch.status is Status.CANCELLED
    assert (batch.total, batch.completed, batch.failed) == (50, len(output), 0)
    assert output
    assert output == [custom_id for custom_id in submitted if custom_id in output]
    assert custom_ids(errors) == [custom_id for custom_id in submitted if custom_id not in output]
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    until(lambda: pipeline.upstream_stats()["in_flight"] == 0, 10, "the calls are broken off")


def test_a_cancelled_batch_waits_for_calls_that_end_within_the_grace(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(16, "[[sleep:700]]"))
    until(lambda: pipeline.upstream_stats()["in_flight"] >= CONCURRENCY, 20, "calls are in flight")

    pipeline.batches.cancel(TENANT, batch_id)

    batch = pipeline.await_end(batch_id)
    assert batch.status is Status.CANCELLED
    assert batch.completed >= CONCURRENCY
    assert len(pipeline.lines_of(batch.error_file_id)) == 16 - batch.completed


def test_a_batch_cancelled_at_once_ends_with_every_line_accounted_for(pipeline: Pipeline) -> None:
    batch_id = pipeline.submit(request_lines(50, "[[sleep:100]]"))
    pipeline.batches.cancel(TENANT, batch_id)

    batch = pipeline.await_end(batch_id)

    output, errors = pipeline.lines_of(batch.output_file_id), pipeline.lines_of(batch.error_file_id)
    assert batch.status is Status.CANCELLED
    assert len(output) + len(errors) == batch.total


def test_what_is_not_done_within_the_window_expires(pipeline: Pipeline) -> None:
    # Models of their own, since many failures of one hold up its good lines too.
    away = (request_line(f"away-{number}", f"[[fail:503]] {number}", model="away") for number in range(30))
    lines = [*request_lines(10), *away]
    batch_id = pipeline.submit(lines, window=SHORT_WINDOW)
    pipeline.await_recorded(batch_id, 10)
    pipeline.processes["upstream"].kill()

    batch = pipeline.await_end(batch_id)
    pipeline.restart_upstream()

    errors = pipeline.lines_of(batch.error_file_id)
    assert batch.status is Status.EXPIRED
    assert batch.expired_at is not None
    assert batch.expired_at - batch.expires_at < 8
    assert (batch.total, batch.completed, batch.failed) == (40, 10, 0)
    assert custom_ids(pipeline.lines_of(batch.output_file_id)) == [f"id-{number}" for number in range(10)]
    assert custom_ids(errors) == [f"away-{number}" for number in range(30)]
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert {line["response"] for line in errors} == {None}


def test_an_ended_batch_leaves_nothing_in_the_broker_or_the_database(pipeline: Pipeline) -> None:
    batch = pipeline.await_end(pipeline.submit(request_lines(20)))

    until(lambda: not list(pipeline.stores.results.read(batch.id)), 60, "its results are swept")
    until(
        lambda: not pipeline.redis.keys("*chord*") and not pipeline.redis.keys("celery-task*"), 30, "its chord is gone"
    )
    assert batch.plan_blob is not None
    assert batch.plan_blob not in set(pipeline.stores.blobs.stale(-1))
