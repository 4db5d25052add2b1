import json
from collections.abc import Callable

from app.domain.retry import RetryPolicy, Trouble
from app.services.ports import Answer
from tests.unit.workers.engine_house import CONCURRENCY, EngineHouse, finished, request_line
from tests.unit.workers.waiting import batch_in_hand, is_settled, until
from workers.line_run import Line

AWAY = Answer(Trouble.AWAY, 503, "upstream-1", b"{}")
FLAKY = Answer(Trouble.FLAKY, 500, "upstream-1", b"{}")
# A wait that no test lives to see the end of.
LONG_AWAY = Answer(Trouble.AWAY, 429, "upstream-1", b"{}", retry_after_s=500.0)


def test_every_line_is_called_and_recorded_once(house: EngineHouse) -> None:
    run = house.submit(100)

    assert finished(run)
    assert house.recorded() == list(range(100))
    assert sorted(json.loads(bytes(body))["n"] for body in house.upstream.bodies) == list(range(100))
    assert house.lane.answered == 100


def test_no_more_calls_than_allowed_are_in_flight(house: EngineHouse) -> None:
    run = house.hold(20)

    house.upstream.is_held = False

    assert finished(run)
    assert house.upstream.most_in_flight == CONCURRENCY


def test_a_call_that_failed_in_passing_is_made_again(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([AWAY, FLAKY])

    run = house.submit(1)

    assert finished(run)
    assert len(house.upstream.bodies) == 3
    assert [result.ok for result in house.records] == [True]


def test_a_line_that_keeps_failing_ends_as_its_last_answer(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([FLAKY] * 3)

    run = house.submit(1)

    assert finished(run)
    assert len(house.upstream.bodies) == 3
    assert [result.ok for result in house.records] == [False]


def test_a_line_that_waits_holds_no_slot(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([LONG_AWAY] * CONCURRENCY)
    house.submit(CONCURRENCY)
    until(lambda: len(house.upstream.bodies) == CONCURRENCY and not house.upstream.in_flight)

    other = house.submit(10, batch_in_hand("batch_2"))

    assert finished(other)
    assert {result.batch_id for result in house.records} == {"batch_2"}


def test_a_line_that_breaks_the_engine_is_a_recorded_error(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([ZeroDivisionError("broken")])

    run = house.submit(2)

    assert finished(run)
    assert house.recorded() == [0, 1]
    error = next(json.loads(result.payload) for result in house.records if not result.ok)
    assert error["error"]["code"] == "internal_error"
    assert error["custom_id"] in {"0", "1"}


def test_a_line_with_damaged_bytes_is_left_to_repair_and_holds_up_no_other_line(
    open_house: Callable[..., EngineHouse],
) -> None:
    house = open_house(read_line=lambda line: request_line(line.position)[: -5 if line.position % 2 else None])

    damaged = house.submit(20, is_read=False)

    assert finished(damaged)
    assert house.recorded() == list(range(0, 20, 2))


def test_a_large_line_is_read_when_its_turn_comes(open_house: Callable[..., EngineHouse]) -> None:
    read: list[int] = []

    def read_line(line: Line) -> bytes:
        read.append(line.position)
        return request_line(line.position)

    house = open_house(read_line=read_line)
    house.upstream.is_held = True
    run = house.submit(9, is_read=False)
    until(lambda: house.upstream.in_flight == CONCURRENCY)
    read_at_first = len(read)

    house.upstream.is_held = False

    assert finished(run)
    assert read_at_first == CONCURRENCY
    assert house.recorded() == sorted(read) == list(range(9))


def test_a_line_that_cannot_be_read_stays_without_a_result(open_house: Callable[..., EngineHouse]) -> None:
    def fail(line: Line) -> bytes:
        raise OSError("The storage is away.")

    house = open_house(read_line=fail)

    run = house.submit(2, is_read=False)

    assert finished(run)
    assert house.records == []
    assert not run.is_given_back


def test_past_the_deadline_nothing_is_called_and_the_batch_is_waited_for(house: EngineHouse) -> None:
    late = batch_in_hand(deadline=house.clock.now())
    run = house.submit(3, late)
    other = house.submit(3, batch_in_hand("batch_2"))
    finished(other)
    was_done_before = is_settled(run)

    house.engine.stop_batch(late)

    assert finished(run)
    assert not was_done_before
    assert len(house.upstream.bodies) == len(house.records) == 3


def test_stopping_a_batch_starts_nothing_more_and_lets_calls_end(house: EngineHouse) -> None:
    batch = batch_in_hand()
    run = house.hold(10, batch)

    house.engine.stop_batch(batch)
    house.upstream.is_held = False

    assert finished(run)
    assert len(house.upstream.bodies) == CONCURRENCY
    assert house.recorded() == list(range(CONCURRENCY))
    assert not run.is_given_back


def test_stopping_a_batch_ends_the_waits_of_its_lines(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([LONG_AWAY] * 2)
    batch = batch_in_hand()
    run = house.submit(2, batch)
    until(lambda: len(house.upstream.bodies) == 2 and not house.upstream.in_flight)

    house.engine.stop_batch(batch)

    assert finished(run)
    assert house.records == []


def test_stopping_one_batch_leaves_the_others(house: EngineHouse) -> None:
    stopped, other = batch_in_hand("batch_1"), batch_in_hand("batch_2")
    house.hold(CONCURRENCY, stopped)
    run = house.submit(5, other)

    house.engine.stop_batch(stopped)
    house.upstream.is_held = False

    assert finished(run)
    assert sum(result.batch_id == "batch_2" for result in house.records) == 5


def test_aborting_a_batch_breaks_off_its_calls_alone(house: EngineHouse) -> None:
    aborted, other = batch_in_hand("batch_1"), batch_in_hand("batch_2")
    run = house.hold(2, aborted)
    other_run = house.submit(1, other)
    until(lambda: house.upstream.in_flight == CONCURRENCY)

    house.engine.stop_batch(aborted)
    house.engine.abort_batch(aborted)

    assert finished(run)
    assert house.upstream.broken_off == 2
    house.upstream.is_held = False
    assert finished(other_run)
    assert [result.batch_id for result in house.records] == ["batch_2"]


def test_after_an_abort_as_many_calls_as_before_may_be_in_flight(house: EngineHouse) -> None:
    batch = batch_in_hand()
    run = house.hold(CONCURRENCY, batch)
    house.engine.stop_batch(batch)
    house.engine.abort_batch(batch)
    finished(run)

    house.hold(10, batch_in_hand("batch_2"))

    assert house.upstream.in_flight == CONCURRENCY


def test_draining_gives_back_what_waits_and_keeps_what_is_answered_in_time(house: EngineHouse) -> None:
    run = house.hold(10)

    house.engine.drain(grace_s=60)
    house.upstream.is_held = False

    assert finished(run)
    assert run.is_given_back
    assert house.recorded() == list(range(CONCURRENCY))


def test_draining_gives_back_calls_that_outlast_the_grace(house: EngineHouse) -> None:
    run = house.hold(2)

    house.engine.drain(grace_s=0.01)

    assert finished(run)
    assert run.is_given_back
    assert house.upstream.broken_off == 2
    assert house.records == []


def test_draining_gives_back_lines_that_wait_to_be_tried_again(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([LONG_AWAY])
    run = house.submit(1)
    until(lambda: len(house.upstream.bodies) == 1 and not house.upstream.in_flight)

    house.engine.drain(grace_s=60)

    assert finished(run)
    assert run.is_given_back


def test_lines_that_come_while_draining_are_given_back(house: EngineHouse) -> None:
    house.engine.drain(grace_s=60)

    run = house.submit(5)

    assert finished(run)
    assert run.is_given_back
    assert house.upstream.bodies == []


def test_lines_that_come_once_the_grace_is_over_are_given_back(house: EngineHouse) -> None:
    held = house.hold(CONCURRENCY)
    house.engine.drain(grace_s=0.01)
    finished(held)

    run = house.submit(5)

    assert finished(run)
    assert run.is_given_back


def test_lines_of_a_stopped_batch_are_not_given_back(house: EngineHouse) -> None:
    batch = batch_in_hand()
    house.engine.stop_batch(batch)

    house.engine.drain(grace_s=60)
    run = house.submit(5, batch)

    assert finished(run)
    assert not run.is_given_back


def test_lines_free_their_room_however_they_end(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([FLAKY, ZeroDivisionError("broken")], policy=RetryPolicy(max_tries=1))
    run = house.submit(20)
    finished(run)
    late = batch_in_hand(deadline=house.clock.now())
    late_run = house.submit(5, late)
    house.engine.stop_batch(late)

    assert finished(late_run)
    house.lane.room.take(2 * CONCURRENCY - 1)
    assert house.lane.room.tasks_wanted() > 0


def test_stopping_closes_the_upstream_and_ends_the_thread(house: EngineHouse) -> None:
    run = house.hold(2)

    house.engine.stop()

    assert house.upstream.is_closed
    assert finished(run)
    assert house.records == []
