"""Workers that are stopped or replaced, and workers that a line ends."""

import os
import signal
import socket
import sqlite3
from pathlib import Path

import pytest

from app.adapters.roster import RedisRoster
from app.domain.lifecycle import Status
from app.domain.result import WORKER_LOST
from tests.integration.databases import on_sqlite
from tests.integration.pipeline import CONCURRENCY, TENANT, Pipeline, custom_ids, request_line, request_lines
from tests.integration.processes import until
from tests.integration.test_failures import BOTH_WORKERS, assert_each_line_once, await_in_flight

pytestmark = [pytest.mark.integration, on_sqlite]


def worker_name(name: str) -> str:
    return f"{name}@{socket.gethostname()}"


def is_writable(pipeline: Pipeline) -> bool:
    connection = sqlite3.connect(pipeline.folder / "wylon.db", timeout=0.3, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def _unacked_tags(pipeline: Pipeline) -> set[str]:
    return {message.tag for message in pipeline.queue.unacked(10_000)}


def _thread_states(pid: int) -> set[str]:
    """Return the states of the threads of a process, such as `R` for a running and `T` for a stopped thread."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def stop_between_commits(pipeline: Pipeline, name: str) -> None:
    """Stop a process while the process holds no lock: SQLite can't take a lock from a stopped process."""

    pid = pipeline.processes[name].pid

    def is_stopped_without_a_lock() -> bool:
        os.kill(pid, signal.SIGSTOP)
        # Until all threads stand still, a thread may take the lock that the next statement has just found free.
        until(lambda: _thread_states(pid) == {"T"}, 10, f"all threads of {name} stand still")
        if is_writable(pipeline):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    until(is_stopped_without_a_lock, 60, f"{name} is stopped between two commits")


@pytest.fixture(autouse=True)
def _control_runs(pipeline: Pipeline) -> None:
    pipeline.ensure("control", "files", "beat")
    pipeline.reset_upstream_stats()


def test_a_worker_that_stood_still_starts_nothing_that_others_have_run(pipeline: Pipeline) -> None:
    pipeline.ensure("worker-1", "worker-2")
    batch_id = pipeline.submit(request_lines(120, "[[sleep:200]]"))
    pipeline.await_recorded(batch_id, 20)
    await_in_flight(pipeline, BOTH_WORKERS)

    stop_between_commits(pipeline, "worker-1")
    try:
        pipeline.await_end(batch_id)
        # The other worker has repeated the calls of lines without a committed result.
        repeats = pipeline.upstream_stats()["repeats"]
    finally:
        os.kill(pipeline.processes["worker-1"].pid, signal.SIGCONT)
    until(lambda: worker_name("worker-1") in pipeline.workers(), 30, "the worker reports again")
    until(lambda: pipeline.upstream_stats()["in_flight"] == 0, 30, "no call is in flight")

    assert_each_line_once(pipeline, batch_id, 120)
    assert pipeline.upstream_stats()["repeats"] == repeats


def test_a_rolling_restart_repeats_no_call(pipeline: Pipeline) -> None:
    pipeline.ensure("worker-1", "worker-2")
    batch_id = pipeline.submit(request_lines(400, "[[sleep:300]]"))
    pipeline.await_recorded(batch_id, 20)

    for name in ("worker-1", "worker-2"):
        assert pipeline.processes[name].terminate(within_s=20) == 0
        pipeline.start(name)

    assert_each_line_once(pipeline, batch_id, 400)
    assert pipeline.upstream_stats()["repeats"] == 0


def test_connections_to_the_broker_that_break_repeat_no_call(pipeline: Pipeline) -> None:
    pipeline.ensure("worker-1", "worker-2")
    batch_id = pipeline.submit(request_lines(300, "[[sleep:300]]"))
    pipeline.await_recorded(batch_id, 10)

    for recorded in (20, 60, 100, 140):
        await_in_flight(pipeline, BOTH_WORKERS // 2)
        pipeline.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        pipeline.await_recorded(batch_id, recorded)

    assert_each_line_once(pipeline, batch_id, 300)
    assert pipeline.upstream_stats()["repeats"] == 0


def test_lines_given_back_are_with_another_worker_within_seconds(pipeline: Pipeline) -> None:
    for name in ("worker-1", "worker-2"):
        if name in pipeline.processes:
            pipeline.processes[name].end()
    pipeline.start("worker-1")
    lines = CONCURRENCY + CONCURRENCY // 2
    batch_id = pipeline.submit(request_lines(lines, "[[sleep:40000]]"))
    await_in_flight(pipeline, BOTH_WORKERS // 2)
    held = lambda: sum(len(w.held_tasks) for w in RedisRoster(pipeline.redis).workers())  # noqa: E731
    until(lambda: held() == lines, 60, "the worker has taken more than it can run")
    pipeline.start("worker-2")

    os.kill(pipeline.processes["worker-1"].pid, signal.SIGTERM)

    # The draining worker's calls go on while the other worker has begun the lines given back.
    until(lambda: pipeline.upstream_stats()["in_flight"] == lines, 5, "the other worker runs the rest")
    pipeline.batches.cancel(TENANT, batch_id)
    assert pipeline.processes["worker-1"].terminate(within_s=20) == 0
    assert pipeline.await_end(batch_id).status is Status.CANCELLED


def test_a_task_is_counted_as_lost_with_the_worker_that_had_taken_it(pipeline: Pipeline) -> None:
    pipeline.ensure("worker-1")
    if "worker-2" in pipeline.processes:
        pipeline.processes["worker-2"].end()
    # Broken connections of an earlier test lost acknowledgements; a sweep deletes old acknowledgements.
    left_before = _unacked_tags(pipeline)
    batch_id = pipeline.submit([request_line("id-0", "[[sleep:3000]]")])
    await_in_flight(pipeline, 1)

    pipeline.processes["worker-1"].kill()
    pipeline.start("worker-1")

    roster = RedisRoster(pipeline.redis)
    until(lambda: roster.losses(batch_id) == {0: 1}, 60, "the task is counted as lost")
    assert pipeline.await_end(batch_id).status is Status.COMPLETED
    until(lambda: _unacked_tags(pipeline) <= left_before, 30, "all messages of this batch are acknowledged")


# Four deaths, each missed after some 12 to 16 s.
@pytest.mark.timeout(300)
def test_a_line_that_ends_its_worker_each_time_becomes_an_error_and_the_batch_goes_on(pipeline: Pipeline) -> None:
    pipeline.ensure("worker-1")
    if "worker-2" in pipeline.processes:
        pipeline.processes["worker-2"].end()
    lines = request_lines(20)
    lines[7] = request_line("id-7", "[[fail:hang]]")
    batch_id = pipeline.submit(lines)
    # Six deaths: three until the task is suspected, counted here, and three until the line is.
    RedisRoster(pipeline.redis).count_losses(batch_id, [7, 7, 7])

    # Every line's first run is beside other lines.
    for begun in range(4):
        until(lambda begun=begun: _begun(pipeline, batch_id) == begun, 60, f"the line is noted {begun} times")
        await_in_flight(pipeline, 1)
        pipeline.processes["worker-1"].kill()
        until(lambda: pipeline.upstream_stats()["in_flight"] == 0, 30, "its call is broken off")
        pipeline.start("worker-1")

    batch = pipeline.await_end(batch_id)
    (error,) = pipeline.lines_of(batch.error_file_id)
    assert (batch.status, batch.completed, batch.failed) == (Status.COMPLETED, 19, 1)
    assert (error["custom_id"], error["error"]["code"]) == ("id-7", WORKER_LOST[0])
    assert custom_ids(pipeline.lines_of(batch.output_file_id)) == [
        f"id-{number}" for number in range(20) if number != 7
    ]


def _begun(pipeline: Pipeline, batch_id: str) -> int:
    with pipeline.stores.engine.begin() as connection:
        found = connection.exec_driver_sql(f"SELECT max(begun) FROM trials WHERE batch_id = '{batch_id}'").scalar()
    return found or 0
