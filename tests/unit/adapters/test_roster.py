"""The roster over a fake Redis; the integration tests have a real Redis."""

from collections.abc import Iterator

import fakeredis
import pytest

from app.adapters.roster import RedisRoster
from app.services.ports import LaneState, WorkerState


class Time:
    """A clock moved by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def passed() -> Time:
    return Time()


@pytest.fixture
def client() -> Iterator[fakeredis.FakeRedis]:
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    yield client
    client.close()


@pytest.fixture
def roster(client: fakeredis.FakeRedis, passed: Time) -> RedisRoster:
    return RedisRoster(client, passed)


@pytest.fixture
def other(client: fakeredis.FakeRedis, passed: Time) -> RedisRoster:
    """The roster of another process."""
    return RedisRoster(client, passed)


STATE = WorkerState("worker-1", ("task-1",), {"default": LaneState(8, 2.5, 3, "latency", 7)})


def test_a_task_is_missing_since_the_look_from_which_on_it_was_at_each(roster: RedisRoster, other: RedisRoster) -> None:
    first = roster.missing_since({"batch_1": [3, 5]})["batch_1"]

    second = other.missing_since({"batch_1": [5, 7]})["batch_1"]

    assert first[3] == first[5] == second[5] != second[7]
    assert other.missing_since({"batch_1": [3]})["batch_1"][3] != first[3]


def test_a_task_found_again_starts_anew(roster: RedisRoster) -> None:
    first = roster.missing_since({"batch_1": [3, 5]})["batch_1"]

    roster.not_missing({"batch_1": [3]})

    second = roster.missing_since({"batch_1": [3, 5]})["batch_1"]
    assert second[5] == first[5]
    assert second[3] != first[3]


def test_a_batch_of_which_nothing_is_missing_starts_anew_beside_one_that_goes_on(roster: RedisRoster) -> None:
    first = roster.missing_since({"batch_1": [3], "batch_2": [4]})
    at_second = roster.missing_since({"batch_1": [], "batch_2": [4]})

    assert at_second == {"batch_2": first["batch_2"]}
    assert roster.missing_since({"batch_1": [3]})["batch_1"][3] != first["batch_1"][3]


def test_batches_left_out_of_a_look_keep_their_time(roster: RedisRoster) -> None:
    first = roster.missing_since({"batch_1": [3]})
    roster.missing_since({"batch_2": [3]})

    assert roster.missing_since({"batch_1": [3]}) == first


def test_each_fence_is_new_and_is_forgotten(roster: RedisRoster, other: RedisRoster) -> None:
    before = roster.fences(["batch_1", "batch_2"])
    roster.fence(["batch_1"])
    first = other.fences(["batch_1"])["batch_1"]
    other.fence(["batch_1"])

    assert before == {"batch_1": "", "batch_2": ""}
    assert "" != first != roster.fences(["batch_1"])["batch_1"]
    assert roster.fenced_batches() == {"batch_1"}
    roster.forget_fences({"batch_1"})
    assert roster.fences(["batch_1"]) == {"batch_1": ""}


def test_losses_add_up_and_are_forgotten(roster: RedisRoster) -> None:
    roster.count_losses("batch_1", [1, 2])
    roster.count_losses("batch_1", [2])
    roster.count_losses("batch_2", [9])

    assert roster.losses("batch_1") == {1: 1, 2: 2}
    assert roster.losses("batch_3") == {}
    assert roster.batches_with_losses() == {"batch_1", "batch_2"}
    roster.forget_losses("batch_1")
    assert roster.batches_with_losses() == {"batch_2"}


def test_an_ended_batch_leaves_no_note_of_missing_tasks(roster: RedisRoster, client: fakeredis.FakeRedis) -> None:
    roster.missing_since({"batch_1": [3], "batch_2": [4]})

    assert roster.batches_with_losses() == {"batch_1", "batch_2"}
    roster.forget_losses("batch_1")

    assert roster.batches_with_losses() == {"batch_2"}
    roster.forget_losses("batch_2")
    assert list(client.scan_iter()) == []


def test_a_worker_is_live_from_its_report_until_it_leaves(roster: RedisRoster) -> None:
    roster.report(STATE)

    assert roster.workers() == [STATE]
    roster.leave("worker-1")
    assert roster.workers() == []


def test_a_worker_without_a_new_report_for_six_seconds_is_dead(
    roster: RedisRoster, other: RedisRoster, passed: Time
) -> None:
    roster.report(STATE)

    for _ in range(3):
        assert other.workers() == [STATE]
        passed.now += 2.0

    assert other.workers() == []
    # The worker is dead for every reader, whether the reader has watched for as long or not.
    assert roster.workers() == []


def test_a_worker_that_repeats_its_report_is_live(roster: RedisRoster, other: RedisRoster, passed: Time) -> None:
    for _ in range(6):
        roster.report(STATE)
        assert other.workers() == [STATE]
        passed.now += 2.0


def test_a_reader_that_stood_still_takes_nobody_for_dead(roster: RedisRoster, other: RedisRoster, passed: Time) -> None:
    """Perhaps the whole machine stood still, with the workers."""
    roster.report(STATE)
    other.workers()

    passed.now += 3_600.0

    assert other.workers() == [STATE]


def test_nothing_that_liveness_rests_on_ends_by_the_clock_of_redis(
    roster: RedisRoster, client: fakeredis.FakeRedis
) -> None:
    roster.report(STATE)
    roster.fence(["batch_1"])

    with roster.lock("repair", 10):
        assert [key for key in client.scan_iter() if client.ttl(key) != -1] == []


def test_a_lock_is_held_by_one(roster: RedisRoster) -> None:
    with roster.lock("repair", 10) as first, roster.lock("repair", 10) as second:
        assert (first, second) == (True, False)
    with roster.lock("repair", 10) as again:
        assert again


def test_a_lock_whose_holder_died_is_taken_over_by_who_has_seen_it_for_so_long(
    roster: RedisRoster, other: RedisRoster, passed: Time
) -> None:
    died = roster.lock("repair", 10)
    died.__enter__()
    looks = []

    for _ in range(6):
        with other.lock("repair", 10) as is_held:
            looks.append(is_held)
        passed.now += 2.0

    assert looks == [False] * 5 + [True]
    # The old holder goes on after all, and gives back a lock of another holder.
    with other.lock("repair", 10):
        died.__exit__(None, None, None)
        with roster.lock("repair", 10) as is_held:
            assert not is_held


def test_a_lock_that_changes_hands_is_not_taken_over(roster: RedisRoster, other: RedisRoster, passed: Time) -> None:
    for _ in range(10):
        with roster.lock("repair", 10), other.lock("repair", 10) as is_held:
            assert not is_held
        passed.now += 2.0
