"""The real clocks of the processes are set while they work: all of them at once, and each kind to another time."""

import os
import time
from collections.abc import Iterator, Mapping

import pytest

from app.domain.batch import Batch
from app.domain.lifecycle import TERMINAL, Status
from tests.clocks import need_library
from tests.integration.pipeline import Pipeline, request_lines
from tests.integration.processes import until

KINDS = ("broker", "control", "files", "beat", "worker")
WORKERS = ("worker-1", "worker-2")
# Of a killed worker's lines; and of a window, from when control's clock is past it.
RUN_AGAIN_WITHIN_S, ENDS_WITHIN_S = 30.0, 20.0
# What the other worker has to do beside them, on a busy machine.
OTHER_LINES_S = 35.0
HOUR_S = 3_600.0
# On a busy machine the clocks are set some seconds after the batch was created.
WINDOW = "24s"
# Each kind by its own clock, once ahead and once behind.
EACH_BY_ITSELF = [
    {"broker": -HOUR_S, "worker": HOUR_S, "files": -60.0, "beat": 60.0},
    {"broker": HOUR_S, "worker": -HOUR_S, "files": HOUR_S, "beat": -12.0},
]


def _named(value: Mapping[str, float]) -> str:
    return ",".join(f"{kind}{seconds:+.0f}s" for kind, seconds in value.items())


@pytest.fixture(scope="module")
def house() -> Iterator[Pipeline]:
    windows = {"WYLON_COMPLETION_WINDOWS": f"24h,{WINDOW}"}
    pipeline = Pipeline(None, lines_per_task="1", library=need_library(), environ=windows)
    # A power cut has torn the schedule that an older version kept.
    (pipeline.folder / "run" / "beat-schedule").write_bytes(os.urandom(512))
    try:
        pipeline.ensure("control", "files", "beat", *WORKERS)
        pipeline.await_end(pipeline.submit(request_lines(8)))
        yield pipeline
    finally:
        pipeline.end()


@pytest.fixture
def pipeline(house: Pipeline) -> Iterator[Pipeline]:
    house.ensure("control", "files", "beat", *WORKERS)
    yield house
    _set(house, dict.fromkeys(KINDS, 0.0))


def _set(pipeline: Pipeline, clocks: Mapping[str, float]) -> None:
    assert pipeline.clocks is not None
    for kind, seconds in clocks.items():
        pipeline.clocks.set(seconds, kind)


def _run_until_recorded(pipeline: Pipeline, batch_id: str, lines: int) -> Batch:
    def look() -> Batch | None:
        batch = pipeline.batch(batch_id)
        return batch if batch.recorded >= lines or batch.status in TERMINAL else None

    return until(look, 60, f"{lines} lines are recorded")


def test_beat_starts_beside_a_torn_schedule_file_of_an_older_version(pipeline: Pipeline) -> None:
    pipeline.processes["beat"].kill()
    pipeline.ensure("beat")

    before = pipeline.stores.ticks.done()["expire"]
    # A tick or two may wait from before.
    until(lambda: pipeline.stores.ticks.done()["expire"] > before + 4, 30, "beat ticks")
    assert pipeline.processes["beat"].exit_code is None


@pytest.mark.parametrize("clocks", EACH_BY_ITSELF, ids=_named)
def test_killed_workers_are_found_and_windows_end_while_each_kind_has_another_time(
    pipeline: Pipeline, clocks: Mapping[str, float]
) -> None:
    windowed = pipeline.submit(request_lines(800, "[[sleep:1000]]"), window=WINDOW)
    batch_id = pipeline.submit(request_lines(40, "[[sleep:1000]]"))
    _run_until_recorded(pipeline, batch_id, 4)
    _set(pipeline, clocks)
    _run_until_recorded(pipeline, batch_id, 12)

    pipeline.processes["worker-1"].kill()
    killed_at = time.monotonic()
    expired = pipeline.await_end(windowed)

    assert expired.status is Status.EXPIRED
    assert time.time() < expired.expires_at + ENDS_WITHIN_S + OTHER_LINES_S
    # A worker whose clock is an hour ahead calls as the other one does.
    assert expired.completed >= 8
    assert_run_again(pipeline, batch_id, killed_at)


def test_set_back_an_hour_all_goes_on_and_a_window_ends_an_hour_later(pipeline: Pipeline) -> None:
    windowed = pipeline.submit(request_lines(800, "[[sleep:1000]]"), window=WINDOW)
    batch_id = pipeline.submit(request_lines(40, "[[sleep:1000]]"))
    _run_until_recorded(pipeline, batch_id, 4)
    _set(pipeline, dict.fromkeys(KINDS, -HOUR_S))
    _run_until_recorded(pipeline, batch_id, 12)

    pipeline.processes["worker-1"].kill()
    assert_run_again(pipeline, batch_id, time.monotonic())

    until(lambda: time.time() > pipeline.batch(windowed).expires_at + 3, 60, "the window is over by the true time")
    still_open = _run_until_recorded(pipeline, windowed, pipeline.batch(windowed).recorded + 8)
    assert still_open.status is Status.IN_PROGRESS
    _set(pipeline, dict.fromkeys(KINDS, 0.0))
    set_at = time.monotonic()
    assert pipeline.await_end(windowed).status is Status.EXPIRED
    assert time.monotonic() - set_at < ENDS_WITHIN_S + OTHER_LINES_S


def assert_run_again(pipeline: Pipeline, batch_id: str, killed_at: float) -> None:
    """Wait for the end of a batch of forty lines, of which a killed worker had some."""
    batch = pipeline.await_end(batch_id)

    assert batch.status is Status.COMPLETED
    assert time.monotonic() - killed_at < RUN_AGAIN_WITHIN_S + OTHER_LINES_S
    assert len(pipeline.lines_of(batch.output_file_id)) == 40
