"""Whatever an upstream does to some lines: what becomes of those, and that the others go on."""

import time
from collections.abc import Iterator

import pytest

from app.domain.lifecycle import TERMINAL, Status
from tests.integration.processes import until
from tests.integration.upstream_faults import (
    CONCURRENCY,
    DAY,
    FAULTS,
    MAX_TRIES,
    OUT_OF_TIME,
    UNJUDGED,
    WINDOW,
    Fault,
    FaultyPipeline,
    faulty_lines,
    healthy_lines,
    record_of,
)

pytestmark = pytest.mark.integration

HEALTHY = 48
# Of the calls in flight these lines may hold a few, so that what is left to the others is most of them.
FAULTY = 3
# With a share of 3 in 16 the others take 1.2 times as long. The rest is for busy machines. If the faulty lines are the
# only lines begun, the server is left alone for a second or two, and the other lines begin within two seconds more.
MOST_TIMES_SLOWER = 3
MOST_LATER_S = 8.0
RECORDED_WITHIN_S = 60.0
WORKER = "worker-1"
on_each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


class Run:
    """A batch some of whose lines meet a fault; they come first."""

    def __init__(self, pipeline: FaultyPipeline, fault: Fault | None, faulty_count: int = FAULTY) -> None:
        faulty = faulty_lines(fault, faulty_count) if fault else []
        window = WINDOW if fault is not None and fault.is_for_ever else DAY
        began_at = time.monotonic()
        self.batch_id = pipeline.submit([*faulty, *healthy_lines(HEALTHY)], window=window)
        self._pipeline = pipeline
        until(self._are_healthy_recorded, RECORDED_WITHIN_S, "the healthy lines are recorded")
        self.healthy_took_s = time.monotonic() - began_at
        self.recorded_then = pipeline.batch(self.batch_id).recorded

    def _are_healthy_recorded(self) -> bool:
        results, batch = self._pipeline.stores.results, self._pipeline.batch(self.batch_id)
        first = batch.total - HEALTHY
        # A batch that has ended may have its results swept.
        return batch.status in TERMINAL or len(results.recorded(self.batch_id, first, batch.total)) == HEALTHY


class Runs:
    """One run for each fault, made when it is first asked for."""

    def __init__(self, pipeline: FaultyPipeline) -> None:
        self.pipeline = pipeline
        self._by_fault: dict[str, Run] = {}
        # The first warms the processes up.
        self.healthy_take_s = max(Run(pipeline, None).healthy_took_s for _ in range(2))

    def of(self, fault: Fault) -> Run:
        if fault.name not in self._by_fault:
            self._by_fault[fault.name] = Run(self.pipeline, fault)
        return self._by_fault[fault.name]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    pipeline = FaultyPipeline()
    try:
        pipeline.start("control", "files", "beat", WORKER)
        yield Runs(pipeline)
    finally:
        pipeline.end()


@on_each_fault
def test_the_rest_of_the_batch_is_slowed_by_no_more_than_its_share(runs: Runs, fault: Fault) -> None:
    run = runs.of(fault)

    assert run.healthy_took_s < MOST_TIMES_SLOWER * runs.healthy_take_s + MOST_LATER_S
    if fault.is_for_ever:
        assert run.recorded_then == HEALTHY


def test_more_lines_than_there_are_calls_may_wait_and_hold_none(runs: Runs) -> None:
    many = 3 * CONCURRENCY
    waits = Fault("429 with another Retry-After past the window", "429-400", 1, OUT_OF_TIME)

    run = Run(runs.pipeline, waits, many)

    assert run.healthy_took_s < MOST_TIMES_SLOWER * runs.healthy_take_s + MOST_LATER_S
    assert run.recorded_then == HEALTHY
    assert runs.pipeline.upstream_stats()["by_fault"][waits.mark] == many


@on_each_fault
def test_a_line_is_called_again_as_often_as_that_can_help_and_its_record_says_what_happened(
    runs: Runs, fault: Fault
) -> None:
    pipeline, batch_id = runs.pipeline, runs.of(fault).batch_id

    batch = pipeline.await_end(batch_id)

    assert batch.status is (Status.EXPIRED if fault.is_for_ever else Status.COMPLETED)
    answered, failed = pipeline.lines_of(batch.output_file_id), pipeline.lines_of(batch.error_file_id)
    assert len(answered) == HEALTHY + (FAULTY if fault.record.is_answered else 0)
    assert len(answered) + len(failed) == HEALTHY + FAULTY
    faulty = [
        record_of(line, is_answered=lines is answered)
        for lines in (answered, failed)
        for line in lines
        if line["custom_id"].startswith("faulty")
    ]
    assert [record._replace(says=fault.record.says) for record in faulty] == [fault.record] * FAULTY
    assert all(fault.record.says in record.says for record in faulty)


@on_each_fault
def test_a_fault_is_met_by_so_many_calls_with_such_pauses(runs: Runs, fault: Fault) -> None:
    pipeline, batch_id = runs.pipeline, runs.of(fault).batch_id
    pipeline.await_end(batch_id)

    retries = pipeline.retries(WORKER, batch_id)

    calls = pipeline.upstream_stats()["by_fault"][fault.mark]
    if fault.calls is None:
        assert calls > FAULTY * MAX_TRIES
    else:
        # These lines begin first: until another is answered their failures are the server's, and use no try. On a busy
        # machine the first answers come late.
        most = FAULTY * (fault.calls + 2 * UNJUDGED)
        assert FAULTY * fault.calls <= calls <= (2 if fault.may_be_resent else 1) * most
        # An answer ends a line at once. In the pause after a failure the window can end, and so can the tries, where
        # other lines are answered meanwhile.
        ends_in_a_pause = fault.is_for_ever or (fault.calls > 1 and not fault.record.is_answered)
        assert len(retries) <= calls - (0 if ends_in_a_pause else FAULTY)
    shortest_s, longest_s = fault.pauses_s
    assert all(shortest_s <= float(retry["delay_s"]) for retry in retries)
    assert all(float(retry["delay_s"]) <= longest_s for retry in retries)
