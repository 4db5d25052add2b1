import pytest

from app.domain.concurrency import ConcurrencyLimit
from app.domain.rates import RateLimit
from app.services.ports import LaneState
from tests.unit.workers.lane_house import CONCURRENCY, PER_MINUTE, House


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("max_in_flight", [1, 6, 7])
def test_the_parts_of_all_workers_are_what_they_may_do_together(max_in_flight: int, workers: int) -> None:
    lanes = [House(max_in_flight=max_in_flight) for _ in range(workers)]
    for place, house in enumerate(lanes):
        house.share(place, workers)

    slots = [house.share(place, workers) for place, house in enumerate(lanes)]

    assert sum(slots) == max_in_flight
    assert max(slots) - min(slots) <= 1


def test_a_worker_that_knows_of_no_others_begins_nothing_of_what_they_share() -> None:
    house = House(max_in_flight=4)

    assert house.begun() == 0
    assert house.lane.room.tasks_wanted() <= 0


def test_what_a_worker_gains_it_has_a_beat_later_and_what_it_loses_at_once() -> None:
    house = House(max_in_flight=8)

    alone = [house.share(0, 1), house.share(0, 1)]
    beside_another = [house.share(0, 2), house.share(0, 2)]
    alone_again = [house.share(0, 1), house.share(0, 1)]

    assert (alone, beside_another, alone_again) == ([0, 8], [4, 4], [4, 8])


def test_while_workers_come_and_go_they_never_have_more_together() -> None:
    first, second = House(max_in_flight=8), House(max_in_flight=8)
    for _ in range(3):
        first.share(0, 1)

    # Each sees the other when its own beat comes.
    together = [
        first.lane.slots + second.share(1, 2),
        first.share(0, 2) + second.lane.slots,
        first.lane.slots + second.share(1, 2),
        first.share(0, 2) + second.lane.slots,
    ]

    assert together == [8, 4, 8, 8]


def test_there_is_room_for_lines_as_the_part_grows() -> None:
    house = House(max_in_flight=4)
    house.share(0, 1)
    before = house.lane.room.tasks_wanted()

    house.share(0, 1)

    assert before <= 0
    assert house.lane.room.tasks_wanted() > 0


def test_while_the_limit_rises_there_is_room_for_as_many_lines_as_it_allows_by_then() -> None:
    house = House(limit=ConcurrencyLimit(64), max_in_flight=64)
    house.share(0, 1)
    house.share(0, 1)
    at_first = house.lane.room.tasks_wanted()
    house.limit.begin(house.clock.now())

    for _ in range(3):
        house.clock.advance(0.02)
        house.lane.tick()

    assert at_first == 2 * 16
    assert at_first < house.lane.room.tasks_wanted() < 2 * 64


def test_without_a_number_for_all_each_worker_has_its_own() -> None:
    house = House()

    assert house.share(1, 4) == CONCURRENCY


def test_the_rate_is_shared_too() -> None:
    house = House(rate=RateLimit(PER_MINUTE, None))
    house.share(0, 4)
    house.lane.begin()

    house.clock.advance(3.9)
    too_early = house.begun()
    house.clock.advance(0.1)

    assert (too_early, house.begun()) == (0, 1)


def test_a_new_worker_begins_no_more_than_the_others_have_left_of_what_they_share() -> None:
    newcomer = House(max_in_flight=8)
    newcomer.share(1, 2, 8)

    slots = [newcomer.share(1, 2, in_flight) for in_flight in (8, 6, 2)]

    assert slots == [0, 2, 4]


def test_a_worker_has_no_part_where_there_are_fewer_calls_than_workers() -> None:
    first, second = House(max_in_flight=1), House(max_in_flight=1)
    for _ in range(2):
        first.share(0, 2)
        second.share(1, 2)

    assert (first.lane.has_no_part, second.lane.has_no_part) == (False, True)
    # The first one's call is still this one's to wait for.
    first.share(0, 2, in_flight_elsewhere=1)
    assert not first.lane.has_no_part


def test_a_part_of_a_rate_that_grows_is_had_a_beat_later() -> None:
    house = House(rate=RateLimit(PER_MINUTE, None))
    house.share(0, 2)
    house.share(0, 1)
    house.lane.begin()

    house.clock.advance(1.9)
    too_early = house.begun()
    house.clock.advance(0.1)

    assert (too_early, house.begun()) == (0, 1)


def test_a_worker_that_may_begin_calls_counts_as_if_it_had_begun_them() -> None:
    """Its next report may be late."""
    newcomer = House(max_in_flight=8)
    states = [LaneState(8, in_flight=1), LaneState(0)]

    for _ in range(2):
        newcomer.lane.set_share(1, states)

    assert newcomer.lane.slots == 0
