"""The roster over Redis' own commands; a real one is in the integration tests."""

import time
from collections.abc import Iterator

import fakeredis
import pytest

from app.adapters.roster import RedisRoster
from app.services.ports import LaneState, WorkerState


@pytest.fixture
def roster() -> Iterator[RedisRoster]:
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    yield RedisRoster(client)
    client.close()


def await_lost(roster: RedisRoster, missing: list[int], after_s: float) -> set[int]:
    deadline = time.monotonic() + 10
    while not (lost := lost_of(roster, missing, after_s)):
        assert time.monotonic() < deadline
    return lost


def lost_of(roster: RedisRoster, missing: list[int], after_s: float, batch_id: str = "batch_1") -> set[int]:
    lost = roster.lost_tasks({batch_id: missing}, after_s)
    assert lost.keys() <= {batch_id}
    return set(lost.get(batch_id, ()))


def test_a_task_is_lost_once_it_was_missing_for_so_long(roster: RedisRoster) -> None:
    assert lost_of(roster, [3, 5], 0.05) == set()

    assert await_lost(roster, [3, 5], 0.05) == {3, 5}


def test_the_time_of_a_task_that_was_seen_between_two_looks_starts_anew(roster: RedisRoster) -> None:
    lost_of(roster, [3, 5], 60)
    lost_of(roster, [5], 60)

    assert await_lost(roster, [5], 0.05) == {5}
    assert lost_of(roster, [3], 0.5) == set()


def test_the_time_of_a_task_that_was_found_lost_starts_anew(roster: RedisRoster) -> None:
    await_lost(roster, [3], 0.05)

    assert lost_of(roster, [3], 60) == set()


def test_a_task_is_lost_though_the_clock_was_set_back(roster: RedisRoster, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([7_200, 3_600, 3_606])
    monkeypatch.setattr(roster._redis, "time", lambda: (next(seconds), 0))
    lost_of(roster, [3], 5)

    assert lost_of(roster, [3], 5) == set()
    assert lost_of(roster, [3], 5) == {3}


def test_batches_are_looked_at_each_for_itself(roster: RedisRoster) -> None:
    lost_of(roster, [3], 60)

    assert lost_of(roster, [3], 0.5, "batch_2") == set()


def test_a_batch_of_which_nothing_is_missing_starts_anew_beside_one_that_goes_on(roster: RedisRoster) -> None:
    roster.lost_tasks({"batch_1": [3], "batch_2": [4]}, 60)
    roster.lost_tasks({"batch_1": [], "batch_2": [4]}, 60)
    deadline = time.monotonic() + 10

    while not (lost := roster.lost_tasks({"batch_2": [4]}, 0.05)):
        assert time.monotonic() < deadline

    assert lost == {"batch_2": [4]}
    assert roster.lost_tasks({"batch_1": [3]}, 0.5) == {}


def test_batches_that_were_not_looked_at_keep_their_time(roster: RedisRoster) -> None:
    roster.lost_tasks({"batch_1": [3]}, 60)
    roster.lost_tasks({"batch_2": [3]}, 60)

    assert await_lost(roster, [3], 0.05) == {3}


def test_losses_add_up_and_are_forgotten(roster: RedisRoster) -> None:
    roster.count_losses("batch_1", [1, 2])
    roster.count_losses("batch_1", [2])
    roster.count_losses("batch_2", [9])

    assert roster.losses("batch_1") == {1: 1, 2: 2}
    assert roster.losses("batch_3") == {}
    assert roster.batches_with_losses() == {"batch_1", "batch_2"}
    roster.forget_losses("batch_1")
    assert roster.batches_with_losses() == {"batch_2"}


def test_who_reports_is_there_and_who_leaves_is_not(roster: RedisRoster) -> None:
    state = WorkerState("worker-1", ("task-1",), {"default": LaneState(8, 2.5, 3, "latency", 7)})
    roster.report(state)

    assert roster.workers() == [state]
    roster.leave("worker-1")
    assert roster.workers() == []


def test_a_lock_is_held_by_one(roster: RedisRoster) -> None:
    with roster.lock("repair", 10) as first, roster.lock("repair", 10) as second:
        assert (first, second) == (True, False)
    with roster.lock("repair", 10) as again:
        assert again
