"""A batch whose lines hang beside others in one lane, and a lane in which nothing moves."""

import json
from collections.abc import Callable

from app.domain.concurrency import ConcurrencyLimit
from app.services.ports import LaneState
from tests.fakes.outside import FakeClock
from tests.unit.workers.engine_house import EngineHouse, finished
from tests.unit.workers.waiting import batch_in_hand, is_settled, until

SLOTS = 16
# The lines of the batch that hangs have numbers from here on.
HANGING = 1_000
# What other workers say of this lane.
IDLE, BUSY = {"default": LaneState(16, in_flight=4)}, {"default": LaneState(16, in_flight=16)}
ME = {"default": LaneState(16)}


def hangs(body: bytes) -> bool:
    return int(json.loads(body)["n"]) >= HANGING


def test_sixty_fast_batches_end_beside_one_whose_lines_hang(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house(concurrency=SLOTS)
    house.upstream.hangs = hangs
    hanging = house.submit(100, batch_in_hand("hanging"), first=HANGING)
    until(lambda: house.upstream.in_flight == SLOTS - SLOTS // 8)

    runs = [house.submit(20, batch_in_hand(f"fast-{number}")) for number in range(60)]

    assert all(finished(run) for run in runs)
    assert len(house.records) == 60 * 20
    assert not is_settled(hanging)


def test_a_batch_half_of_whose_lines_hang_leaves_others_room(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house(concurrency=SLOTS)
    house.upstream.hangs = hangs
    mixed = batch_in_hand("mixed")
    for number in range(40):
        house.submit(1, mixed, first=number)
        house.submit(1, mixed, first=HANGING + number)
    until(lambda: house.upstream.in_flight == SLOTS - SLOTS // 8)

    runs = [house.submit(20, batch_in_hand(f"fast-{number}")) for number in range(10)]

    assert all(finished(run) for run in runs)


def test_a_limit_that_calls_which_hang_have_filled_is_passed_by_a_batch_that_comes(
    open_house: Callable[..., EngineHouse],
) -> None:
    limit = ConcurrencyLimit(SLOTS * 8)
    limit.limit = limit.ceiling = SLOTS
    clock = FakeClock()
    house = open_house(concurrency=SLOTS * 8, limit=limit, lane_clock=clock.now)
    house.upstream.hangs = hangs
    house.submit(100, batch_in_hand("hanging"), first=HANGING)
    until(lambda: house.upstream.in_flight == SLOTS)

    run = house.submit(20, batch_in_hand("fast"))
    was_done_before = is_settled(run, 0.1)
    clock.advance(1.0)
    # Each second the lane is looked at.
    house.engine.share_out(0, [ME])

    assert not was_done_before
    until(lambda: bool(house.records))


def blocked(open_house: Callable[..., EngineHouse]) -> tuple[EngineHouse, FakeClock]:
    clock = FakeClock()
    house = open_house(concurrency=SLOTS, lane_clock=clock.now)
    house.upstream.hangs = hangs
    house.submit(SLOTS, batch_in_hand("hanging"), first=HANGING)
    until(lambda: house.upstream.in_flight == SLOTS - SLOTS // 8)
    house.submit(SLOTS, batch_in_hand("also"), first=HANGING)
    until(lambda: house.upstream.in_flight == SLOTS - 1)
    house.submit(SLOTS, batch_in_hand("third"), first=HANGING)
    until(lambda: house.upstream.in_flight == SLOTS)
    return house, clock


def test_a_blocked_lane_gives_back_tasks_that_have_not_begun_where_others_have_room(
    open_house: Callable[..., EngineHouse],
) -> None:
    house, clock = blocked(open_house)
    waiting = [house.submit(1, batch_in_hand("waiting")) for _ in range(20)]
    clock.advance(10.0)

    house.engine.share_out(0, [ME, IDLE])

    # As many as the other worker has room for.
    until(lambda: sum(run.is_given_back for run in waiting) == 12)
    assert all(finished(run) for run in waiting if run.is_given_back)
    assert house.lane.room.tasks_wanted() == 0
    assert house.records == []


def test_a_task_with_a_line_in_flight_is_not_given_back(open_house: Callable[..., EngineHouse]) -> None:
    house, clock = blocked(open_house)
    clock.advance(10.0)

    house.engine.share_out(0, [ME, IDLE])
    other = house.submit(1, is_other=True)

    assert finished(other)
    assert house.upstream.in_flight == SLOTS


def test_where_all_workers_stand_still_none_gives_anything_back(open_house: Callable[..., EngineHouse]) -> None:
    house, clock = blocked(open_house)
    waiting = house.submit(1, batch_in_hand("waiting"))
    clock.advance(60.0)

    house.engine.share_out(0, [ME, BUSY])

    assert finished(house.submit(1, is_other=True))
    assert not is_settled(waiting)
    house.lane.room.take(0)
    assert house.lane.room._is_closed is False


def test_a_lane_gives_back_again_only_after_a_while(open_house: Callable[..., EngineHouse]) -> None:
    house, clock = blocked(open_house)
    first = house.submit(1, batch_in_hand("waiting"))
    clock.advance(10.0)
    house.engine.share_out(0, [ME, IDLE])
    assert finished(first)

    second = house.submit(1, batch_in_hand("waiting"))
    clock.advance(9.0)
    house.engine.share_out(0, [ME, IDLE])
    assert finished(house.submit(1, is_other=True))
    was_given_back = second.is_given_back
    clock.advance(1.0)
    house.engine.share_out(0, [ME, IDLE])

    assert finished(second)
    assert not was_given_back


def test_a_lane_that_moves_again_takes_lines_again(open_house: Callable[..., EngineHouse]) -> None:
    house, clock = blocked(open_house)
    waiting = house.submit(1, batch_in_hand("waiting"))
    clock.advance(10.0)
    house.engine.share_out(0, [ME, IDLE])
    assert finished(waiting)
    before = house.lane.room._is_closed

    house.upstream.hangs = lambda body: False
    until(lambda: not house.upstream.in_flight)
    house.engine.share_out(0, [ME, IDLE])

    until(lambda: not house.lane.room._is_closed)
    assert before


def test_lines_that_a_rate_holds_back_are_not_given_back(open_house: Callable[..., EngineHouse]) -> None:
    clock = FakeClock()
    house = open_house(other_per_minute=1.0, lane_clock=clock.now)
    house.other.is_held = True
    waiting = house.submit(5, is_other=True)
    until(lambda: house.other.in_flight == 1)
    clock.advance(20.0)

    house.engine.share_out(0, [{"other": LaneState(3)}, {"other": LaneState(3)}])

    assert finished(house.submit(1))
    assert not waiting.is_given_back
