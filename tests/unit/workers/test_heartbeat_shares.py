import pytest

from app.services.ports import REPORT_LIFETIME_S, LaneState, WorkerState
from tests.unit.workers.heartbeat_house import House


@pytest.fixture
def house() -> House:
    return House()


def test_what_workers_share_is_parted_by_their_places_among_the_names(house: House) -> None:
    for name in ("worker-2", "worker-0", "worker-10"):
        house.report_of(name)

    house.beat()

    # Of worker-0, worker-1, worker-10 and worker-2.
    assert house.engine.shares == [(1, 4)]


def test_a_report_before_its_time_parts_nothing(house: House) -> None:
    house.beat()
    house.clock.advance(0.3)
    house.report_of("worker-0")
    house.beat()
    hurried = list(house.engine.shares)

    house.clock.advance(0.7)
    house.beat()

    assert hurried == [(0, 1)]
    assert house.engine.shares == [(0, 1), (1, 2)]


def test_a_worker_that_is_gone_leaves_its_part_to_the_others(house: House) -> None:
    house.report_of("worker-0")
    house.beat()

    house.clock.advance(REPORT_LIFETIME_S)
    house.beat()

    assert house.engine.shares == [(1, 2), (0, 1)]


def test_a_worker_that_finds_itself_in_no_list_keeps_the_part_it_has(house: House) -> None:
    house.roster.workers = lambda: [WorkerState("worker-0", (), {})]

    house.heartbeat.report()

    assert house.engine.shares == []


def test_the_window_of_each_upstream_is_that_of_all_workers_that_call_it(house: House) -> None:
    house.report_of("worker-2")
    house.roster.report(WorkerState("worker-3", (), {"other": LaneState(100)}))

    house.beat()

    assert house.heartbeat.windows == {"default": 30}


def test_calls_that_the_others_have_in_flight_are_told_with_it(house: House) -> None:
    house.report_of("worker-2", in_flight=5)
    house.report_of("worker-0", in_flight=2)

    house.beat()

    assert [lanes["default"].in_flight for lanes in house.engine.states] == [2, 0, 5]
