"""Results of ended batches are cleared in the time that recording leaves."""

from app.services.clearing import ClearingService
from tests.fakes.outside import FakeClock
from tests.fakes.results import MemoryResultStore


class CostlyStore(MemoryResultStore):
    """Has so many results to clear, each of which takes its time."""

    def __init__(self, clock: FakeClock, count: int, result_s: float) -> None:
        super().__init__()
        self.clock = clock
        self.left = count
        self.result_s = result_s
        self.limits: list[int] = []

    def clear(self, limit: int) -> int:
        deleted = min(limit, self.left)
        self.left -= deleted
        self.limits.append(limit)
        self.clock.advance(deleted * self.result_s)
        return deleted


class House:
    def __init__(self, count: int, result_s: float) -> None:
        self.clock = FakeClock(0.0)
        self.store = CostlyStore(self.clock, count, result_s)
        self.paused_s = 0.0
        self.clearing = ClearingService(self.store, monotonic=self.clock.now, pause=self.pause)

    def pause(self, seconds: float) -> None:
        self.paused_s += seconds
        self.clock.advance(seconds)


def test_all_there_is_is_cleared_by_one_call_however_many_batches_it_is_of() -> None:
    house = House(count=50_000, result_s=1e-5)

    house.clearing.clear()

    assert house.store.left == 0


def test_a_transaction_takes_no_more_results_than_it_can_delete_in_a_moment() -> None:
    large, small = House(count=10_000, result_s=1e-3), House(count=1_000_000, result_s=1e-6)

    for house in (large, small):
        house.clearing.clear()

    assert large.store.limits[-1] * 1e-3 <= 0.02
    assert small.store.limits[-1] == 20_000


def test_others_have_the_database_for_most_of_the_time() -> None:
    house = House(count=10**9, result_s=1e-4)

    house.clearing.clear()

    assert house.paused_s >= 0.6 * house.clock.now()


def test_a_call_ends_though_more_is_left_and_the_next_goes_on() -> None:
    house = House(count=10**9, result_s=1e-4)

    house.clearing.clear()
    ended_at, left = house.clock.now(), house.store.left
    house.clearing.clear()

    assert ended_at < 10
    assert house.store.left < left < 10**9
