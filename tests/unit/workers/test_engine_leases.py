"""What the engine does with lines that are no longer its own to start, and with those that may end it."""

from collections.abc import Callable

from app.domain.result import WORKER_LOST
from app.domain.retry import RetryPolicy, Trouble
from app.services.ports import Answer
from tests.unit.workers.engine_house import CONCURRENCY, EngineHouse, finished
from tests.unit.workers.waiting import batch_in_hand, until

LONG_AWAY = Answer(Trouble.AWAY, 429, "upstream-1", b"{}", retry_after_s=500.0)
AWAY = Answer(Trouble.AWAY, 503, "upstream-1", b"{}")


def lapse(house: EngineHouse) -> None:
    """Let the lease run out and begin anew, as after a minute of standstill."""
    house.lease.extend(house.lease.now() - 60)
    assert house.lease.extend(house.lease.now() + 60)


def test_no_line_is_started_once_the_lease_has_lapsed(house: EngineHouse) -> None:
    run = house.hold(CONCURRENCY + 5)

    lapse(house)
    house.upstream.is_held = False

    assert finished(run)
    # Calls that were in flight are recorded all the same: whichever answer is first counts.
    assert house.recorded() == list(range(CONCURRENCY))
    assert len(house.upstream.bodies) == CONCURRENCY
    assert run.is_given_back is False


def test_lines_that_wait_behind_calls_in_flight_are_let_go_at_once(house: EngineHouse) -> None:
    house.hold(CONCURRENCY)
    waiting = house.submit(5)

    lapse(house)
    house.engine.let_go()

    assert finished(waiting)
    assert house.upstream.in_flight == CONCURRENCY


def test_lines_that_pause_are_let_go(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([LONG_AWAY])
    run = house.submit(1)
    until(lambda: len(house.upstream.bodies) == 1)

    lapse(house)
    house.engine.let_go()

    assert finished(run)
    assert house.recorded() == []


def test_lines_of_the_new_term_are_run(house: EngineHouse) -> None:
    lapse(house)
    run = house.submit(10)
    house.engine.let_go()

    assert finished(run)
    assert house.recorded() == list(range(10))


def test_lines_sent_alone_run_one_at_a_time_beside_the_others(house: EngineHouse) -> None:
    house.upstream.is_held = True
    alone = house.submit(4, is_alone=True)
    others = house.submit(CONCURRENCY)
    until(lambda: house.upstream.in_flight == CONCURRENCY + 1)

    begun = dict(house.trials.begun)
    house.upstream.is_held = False

    assert finished(alone)
    assert finished(others)
    assert begun == {("batch_1", 0): 1}
    assert house.trials.begun == {}


def test_a_line_begun_three_times_without_an_end_becomes_an_error(house: EngineHouse) -> None:
    for _ in range(3):
        house.trials.begin("batch_1", 1)

    run = house.submit(3, is_alone=True)

    assert finished(run)
    assert house.recorded() == [0, 1, 2]
    assert [result.position for result in house.records if not result.ok] == [1]
    assert f'"code":"{WORKER_LOST[0]}"'.encode() in next(r.payload for r in house.records if not r.ok)
    assert len(house.upstream.bodies) == 2


def test_tries_that_end_are_no_sign_against_a_line(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([AWAY] * 6, policy=RetryPolicy(max_tries=3, base_s=0.001))

    run = house.submit(1, is_alone=True)

    assert finished(run)
    assert [result.ok for result in house.records] == [True]
    assert len(house.upstream.bodies) == 7


def test_a_line_that_cannot_be_noted_is_not_begun(house: EngineHouse) -> None:
    def fail(batch_id: str, position: int) -> int:
        raise ConnectionError("The database is away.")

    begin, house.trials.begin = house.trials.begin, fail
    run = house.submit(1, is_alone=True)
    until(lambda: house.lane.paused == 1)

    assert house.upstream.bodies == []
    house.trials.begin = begin
    assert finished(run)
    assert house.recorded() == [0]


def test_stopping_a_batch_drops_what_waits_for_a_call_at_once(house: EngineHouse) -> None:
    batch = batch_in_hand()
    run = house.hold(20, batch)

    house.engine.stop_batch(batch)

    until(lambda: run.left == CONCURRENCY)
    assert house.upstream.in_flight == CONCURRENCY
