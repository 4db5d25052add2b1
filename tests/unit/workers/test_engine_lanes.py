"""Lines of two upstreams in one engine."""

import time
from collections.abc import Callable

from app.domain.retry import Trouble
from app.services.ports import Answer, LaneState
from tests.unit.workers.engine_house import CONCURRENCY, EngineHouse, finished
from tests.unit.workers.waiting import batch_in_hand, is_settled, until

# A wait that no test lives to see the end of.
LONG_AWAY = Answer(Trouble.AWAY, 429, "upstream-1", b"{}", retry_after_s=500.0)
# What a worker that has nothing to do says of its lanes.
OTHER = {"other": LaneState(0)}


def test_lines_of_one_upstream_that_hang_keep_none_of_the_others(house: EngineHouse) -> None:
    batch = batch_in_hand()
    hanging = house.hold(20, batch)

    run = house.submit(50, batch, is_other=True)

    assert finished(run)
    assert len(house.other.bodies) == 50
    assert not is_settled(hanging)
    assert house.upstream.in_flight == len(house.upstream.bodies) == CONCURRENCY


def test_each_upstream_has_all_its_calls_beside_the_others(house: EngineHouse) -> None:
    house.other.is_held = True
    house.hold(20)
    house.submit(20, is_other=True)

    until(lambda: house.other.in_flight == CONCURRENCY)

    assert house.upstream.in_flight == CONCURRENCY


def test_lines_are_counted_for_their_own_lane(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([LONG_AWAY] * 2)
    house.other.script = []

    house.submit(3)
    run = house.submit(5, is_other=True)

    assert finished(run)
    until(lambda: house.lane.answered == 1)
    assert (house.lane.paused, house.other_lane.paused) == (2, 0)
    assert house.other_lane.answered == 5
    # Those that pause leave their room to others.
    assert house.lane.room._lines == house.other_lane.room._lines == 0


def test_a_batch_that_is_aborted_has_its_calls_to_all_upstreams_broken_off(house: EngineHouse) -> None:
    batch = batch_in_hand()
    house.other.is_held = True
    run = house.hold(5, batch)
    other_run = house.submit(5, batch, is_other=True)
    until(lambda: house.other.in_flight == CONCURRENCY)

    house.engine.stop_batch(batch)
    house.engine.abort_batch(batch)

    assert finished(run)
    assert finished(other_run)
    assert (house.upstream.broken_off, house.other.broken_off) == (CONCURRENCY, CONCURRENCY)
    assert house.lane.room._lines == house.other_lane.room._lines == 0


def test_draining_gives_back_what_waits_for_any_upstream(house: EngineHouse) -> None:
    house.other.is_held = True
    run = house.hold(5)
    other_run = house.submit(5, is_other=True)
    until(lambda: house.other.in_flight == CONCURRENCY)

    house.engine.drain(0)

    assert finished(run)
    assert finished(other_run)
    assert run.is_given_back
    assert other_run.is_given_back


def test_lines_that_may_end_the_process_go_one_at_a_time_whichever_upstream_they_are_for(house: EngineHouse) -> None:
    house.upstream.is_held = house.other.is_held = True
    run = house.submit(2, is_alone=True)
    other_run = house.submit(2, batch_in_hand("batch_2"), is_alone=True, is_other=True)
    until(lambda: house.upstream.in_flight == 1)
    beside_it = house.other.in_flight

    house.upstream.is_held = False
    assert finished(run)
    until(lambda: house.other.in_flight == 1)
    house.other.is_held = False

    assert beside_it == 0
    assert finished(other_run)
    assert house.other.most_in_flight == 1


def test_what_all_workers_share_begins_once_this_one_has_its_part(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house(other_in_flight=4)
    house.other.is_held = True
    house.submit(20, is_other=True)
    assert finished(house.submit(1))
    before = len(house.other.bodies)

    house.engine.share_out(1, [OTHER, OTHER])
    house.engine.share_out(1, [OTHER, OTHER])
    until(lambda: house.other.in_flight == 2)
    house.engine.share_out(0, [OTHER])
    house.engine.share_out(0, [OTHER])
    until(lambda: house.other.in_flight == 4)

    assert before == 0


def test_workers_that_do_not_know_an_upstream_have_no_part_of_what_is_shared(
    open_house: Callable[..., EngineHouse],
) -> None:
    house = open_house(other_in_flight=1)

    for _ in range(2):
        house.engine.share_out(1, [{"default": LaneState(3)}, OTHER])

    assert finished(house.submit(3, is_other=True))


def test_lines_that_a_rate_holds_back_begin_as_time_passes(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house(other_per_minute=1_200)
    began_at = time.monotonic()

    run = house.submit(5, is_other=True)

    assert finished(run)
    # The first at once, and a twentieth of a second for each of the rest.
    assert time.monotonic() - began_at > 4 / 20 - 0.01


def test_stopping_closes_all_upstreams(house: EngineHouse) -> None:
    house.engine.stop()

    assert house.upstream.is_closed
    assert house.other.is_closed


def test_lines_for_which_this_worker_has_no_part_are_dropped(
    open_house: Callable[..., EngineHouse],
) -> None:
    house = open_house(other_in_flight=1)
    house.other.script = [LONG_AWAY]
    for _ in range(2):
        house.engine.share_out(0, [OTHER])
    paused = house.submit(1, is_other=True)
    until(lambda: house.other_lane.paused == 1)
    house.other.is_held = True
    waiting = house.submit(3, is_other=True)
    until(lambda: house.other.in_flight == 1)

    house.engine.share_out(1, [OTHER, OTHER])

    # A live worker holds them no more, so that repair has others run them; the call in flight goes on.
    assert finished(paused)
    until(lambda: waiting.left == 1)
    house.other.is_held = False
    assert finished(waiting)
    assert not waiting.is_given_back
    assert house.other_lane.answered == 1
    assert house.other_lane.room._lines == 0
