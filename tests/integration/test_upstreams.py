"""Several upstreams: what is for one of them never waits for another, and their limits hold over all workers."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.adapters.queue import LINES_QUEUE, lines_queue
from app.domain.lifecycle import Status
from tests.integration.databases import on_each_database
from tests.integration.pipeline import TENANT, Pipeline, custom_ids, request_line, stats_of
from tests.integration.processes import Process, start_upstream, until
from tests.integration.test_failures import assert_each_line_once

pytestmark = [pytest.mark.integration, on_each_database]

SLOW_AT_ONCE = 6
METERED_PER_MINUTE = 600


@dataclass
class House:
    """A deployment with four upstreams."""

    pipeline: Pipeline
    urls: dict[str, str]

    def answered(self, name: str) -> int:
        return int(stats_of(self.urls[name])["answered"])


@pytest.fixture(scope="module")
def house(module_database: str | None) -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="wylon-"))
    stand_ins: dict[str, Process] = {}
    urls: dict[str, str] = {}
    for name in ("slow", "fast", "metered", "gone"):
        stand_ins[name], urls[name] = start_upstream(folder)
    stand_ins["gone"].end()
    config = folder / "wylon.toml"
    limits = {"slow": f"max_in_flight = {SLOW_AT_ONCE}", "metered": f"requests_per_minute = {METERED_PER_MINUTE}"}
    config.write_text(
        "".join(
            f"[upstreams.{name}]\nurls = ['{url}']\nmodels = ['{name}-*']\n{limits.get(name, '')}\n"
            for name, url in urls.items()
        )
    )
    pipeline = Pipeline(module_database, config=config)
    try:
        pipeline.start("control", "files", "worker-1", "worker-2", "beat")
        yield House(pipeline, urls)
    finally:
        pipeline.end()
        for stand_in in stand_ins.values():
            stand_in.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _workers_run(house: House) -> None:
    house.pipeline.ensure("control", "files", "beat", "worker-1", "worker-2")


def mixed_lines(slow: int, fast: int, sleep_ms: int) -> list[bytes]:
    """Return lines for both, evenly mixed."""
    kinds = sorted(
        [(number / slow, "slow") for number in range(slow)] + [(number / fast, "fast") for number in range(fast)]
    )
    marks = {"slow": f"[[sleep:{sleep_ms}]]", "fast": ""}
    return [
        request_line(f"id-{number}", f"{marks[kind]} {number}", f"{kind}-model")
        for number, (_, kind) in enumerate(kinds)
    ]


def test_the_lines_of_a_fast_model_do_not_wait_for_those_of_a_slow_one_in_the_same_file(house: House) -> None:
    pipeline, fast_before, slow_before = house.pipeline, house.answered("fast"), house.answered("slow")
    batch_id = pipeline.submit(mixed_lines(slow=60, fast=300, sleep_ms=1_500))

    until(lambda: house.answered("fast") - fast_before == 300, 30, "all lines of the fast model are answered")

    assert house.answered("slow") - slow_before < 60
    pipeline.batches.cancel(TENANT, batch_id)
    ended = pipeline.await_end(batch_id)
    assert ended.status is Status.CANCELLED
    lines = [*pipeline.lines_of(ended.output_file_id), *pipeline.lines_of(ended.error_file_id)]
    assert sorted(custom_ids(lines)) == sorted(f"id-{number}" for number in range(360))


def test_a_file_for_several_comes_back_whole_and_in_its_order(house: House) -> None:
    pipeline, slow_before = house.pipeline, house.answered("slow")
    # More than a thousand lines, so that a task has several.
    batch_id = pipeline.submit(mixed_lines(slow=101, fast=1_100, sleep_ms=0))

    ended = pipeline.await_end(batch_id)

    assert (ended.status, ended.completed, ended.lines_per_task) == (Status.COMPLETED, 1_201, 2)
    assert custom_ids(pipeline.lines_of(ended.output_file_id)) == [f"id-{number}" for number in range(1_201)]
    assert house.answered("slow") - slow_before == 101


def test_the_limit_of_calls_in_flight_holds_over_all_workers(house: House) -> None:
    pipeline = house.pipeline
    pipeline.await_end(
        pipeline.submit([request_line(f"id-{number}", f"[[sleep:200]] {number}", "slow-model") for number in range(60)])
    )

    assert 2 <= stats_of(house.urls["slow"])["max_in_flight"] <= SLOW_AT_ONCE


def test_the_limit_of_requests_a_minute_holds_over_all_workers(house: House) -> None:
    pipeline, began_at = house.pipeline, time.monotonic()
    batch_id = pipeline.submit([request_line(f"id-{number}", f"{number}", "metered-model") for number in range(80)])

    ended = pipeline.await_end(batch_id)

    assert ended.completed == 80
    # A burst is 3 s of it, and each worker may begin one more.
    assert time.monotonic() - began_at >= (80 - 2) / (METERED_PER_MINUTE / 60) - 3


def test_an_upstream_that_is_gone_keeps_nothing_of_another_waiting(house: House) -> None:
    pipeline = house.pipeline
    stuck = pipeline.submit([request_line(f"id-{number}", f"{number}", "gone-model") for number in range(600)])
    until(lambda: pipeline.lines_paused() > 16, 60, "lines of the upstream that is gone wait")

    batch_id = pipeline.submit([request_line(f"id-{number}", f"{number}", "fast-model") for number in range(40)])

    assert_each_line_once(pipeline, batch_id, 40)
    assert pipeline.batch(stuck).status is Status.IN_PROGRESS
    pipeline.batches.cancel(TENANT, stuck)
    assert pipeline.await_end(stuck).status is Status.CANCELLED


def test_a_killed_worker_costs_no_line_of_either(house: House) -> None:
    pipeline = house.pipeline
    batch_id = pipeline.submit(mixed_lines(slow=40, fast=200, sleep_ms=300))
    pipeline.await_recorded(batch_id, 30)

    pipeline.processes["worker-1"].kill()

    assert_each_line_once(pipeline, batch_id, 240)


def test_line_tasks_in_the_one_queue_of_an_older_version_are_sent_again_to_their_upstream(house: House) -> None:
    pipeline, own_queue = house.pipeline, lines_queue("slow")
    batch_id = pipeline.submit(mixed_lines(slow=40, fast=10, sleep_ms=500))
    until(lambda: pipeline.redis.llen(own_queue), 60, "tasks wait for the slow model")

    moved = 0
    while message := pipeline.redis.rpop(own_queue):
        pipeline.redis.lpush(LINES_QUEUE, message.replace(own_queue.encode(), LINES_QUEUE.encode()))
        moved += 1

    assert moved
    assert_each_line_once(pipeline, batch_id, 50)


def test_a_model_that_no_upstream_has_is_refused_with_its_name(house: House) -> None:
    batch_id = house.pipeline.submit([request_line("id-0", "hello", "unknown-model")])

    ended = house.pipeline.await_end(batch_id)

    assert ended.status is Status.FAILED
    assert (ended.errors[0].code, ended.errors[0].line) == ("model_not_found", 1)
    assert "unknown-model" in ended.errors[0].message
