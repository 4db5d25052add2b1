"""Lines that may end their process wait for each other, and for nobody else."""

from tests.unit.workers.engine_house import EngineHouse, finished
from tests.unit.workers.waiting import until


def test_lines_that_wait_for_their_turn_alone_take_no_room_from_others(house: EngineHouse) -> None:
    house.upstream.is_held = True
    run = house.submit(50, is_alone=True)
    until(lambda: house.upstream.in_flight == 1)
    room = house.lane.room.tasks_wanted()

    house.upstream.is_held = False

    assert room > 0
    assert finished(run)
    assert house.lane.room._lines == 0


def test_lines_that_waited_alone_are_given_back_like_others(house: EngineHouse) -> None:
    house.upstream.is_held = True
    run = house.submit(5, is_alone=True)
    until(lambda: house.upstream.in_flight == 1)

    house.engine.drain(0)

    assert finished(run)
    assert run.is_given_back
    assert house.lane.room._lines == 0
