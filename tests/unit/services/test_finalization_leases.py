from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.domain.errors import StateConflict
from app.domain.lifecycle import Status
from app.domain.watch import Watch
from app.services.leases import LEASE_S
from app.services.ports import Lease
from tests.fakes.outside import MemoryBlobs
from tests.fakes.stores import break_leases
from tests.unit.services.pipeline_house import NOW, PipelineHouse


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def take_over(house: PipelineHouse) -> None:
    """Have another hold the batch, as after a standstill."""
    break_leases(house.batches)
    assert house.batches.lease("batch_1", "another")


def test_a_second_finalizer_does_nothing(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.record(0)
    house.finalization.finalize("batch_1")
    blobs, files = dict(house.blobs.stored), dict(house.database.files)

    assert house.finalization.finalize("batch_1") is False

    assert (house.blobs.stored, house.database.files) == (blobs, files)


def test_a_finalizer_beside_another_does_nothing(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.record(0)
    house.batches.lease("batch_1", "another")

    assert house.finalization.finalize("batch_1") is False

    assert house.batch().status is Status.IN_PROGRESS
    assert house.database.files == {}


def test_one_that_died_is_followed_by_another_once_its_lease_is_broken(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.record(0)
    house.batches.lease("batch_1", "dead")
    house.batches.seal("batch_1", "dead", NOW)

    break_leases(house.batches)

    assert house.finalization.finalize("batch_1") is True
    assert house.batch().status is Status.COMPLETED


@pytest.mark.parametrize(("lines", "each_s"), [(2_000, 0.05), (50, 2.0)])
def test_the_lease_is_renewed_while_the_files_are_written(house: PipelineHouse, lines: int, each_s: float) -> None:
    house.add_running(total=lines)
    house.record(*range(lines))
    watch: Watch[str, Lease] = Watch(60)
    unchanged_s: list[float] = []

    def slowly(positions: int) -> None:
        house.clock.advance(each_s)
        (lease,) = house.batches.leases()
        unchanged_s.append(watch.unchanged_s("batch_1", lease, house.clock.monotonic()))

    house.finalization_over(_Watched(house, slowly)).finalize("batch_1")

    assert house.batch().status is Status.COMPLETED
    assert max(unchanged_s) < LEASE_S


def test_one_that_lost_its_lease_writes_nothing(house: PipelineHouse) -> None:
    house.add_running(total=2_000)
    house.record(*range(2_000))

    def lose(position: int) -> None:
        if position == 100:
            house.clock.advance(60)
            take_over(house)

    with pytest.raises(StateConflict):
        house.finalization_over(_Watched(house, lose)).finalize("batch_1")

    assert house.database.files == {}
    assert set(house.blobs.stored) == {"files/batch_1", "plans/batch_1"}
    assert house.blobs.unfinished == set()


def test_one_that_lost_its_lease_at_the_very_end_ends_nothing(house: PipelineHouse) -> None:
    house.add_running(total=2)
    house.record(0, 1)

    def lose(position: int) -> None:
        house.clock.advance(60)
        take_over(house)

    with pytest.raises(StateConflict):
        house.finalization_over(_Watched(house, lose)).finalize("batch_1")

    assert house.batch().status is Status.FINALIZING
    assert set(house.blobs.stored) == {"files/batch_1", "plans/batch_1"}


def test_each_file_has_the_whole_lease_for_its_commit(house: PipelineHouse) -> None:
    house.add_running(total=2)
    house.record(0)
    house.record(1, ok=False)
    blobs = _SlowBlobs(house, commit_s=4.0, is_taken_over=False)

    assert house.finalization_over(house.results, blobs).finalize("batch_1") is True

    assert house.batch().status is Status.COMPLETED
    # Each commit begins with a lease that was just renewed.
    assert blobs.renewed_s == [0.0, 0.0]


def test_one_that_lost_its_lease_between_its_files_leaves_neither(house: PipelineHouse) -> None:
    house.add_running(total=2)
    house.record(0)
    house.record(1, ok=False)
    blobs = _SlowBlobs(house, commit_s=7.0, is_taken_over=True)

    with pytest.raises(StateConflict):
        house.finalization_over(house.results, blobs).finalize("batch_1")

    assert house.batch().status is Status.FINALIZING
    assert set(blobs.stored) == {"files/batch_1", "plans/batch_1"}
    assert blobs.unfinished == set()


class _SlowBlobs(MemoryBlobs):
    """Blobs of the house whose commits take long; after each another finalizer may have the batch."""

    def __init__(self, house: PipelineHouse, commit_s: float, *, is_taken_over: bool) -> None:
        super().__init__(house.clock)
        self.stored = dict(house.blobs.stored)
        # How long ago the lease was renewed as each began to be stored.
        self.renewed_s: list[float] = []
        self._watch: Watch[str, Lease] = Watch(60)
        self._is_taken_over = is_taken_over
        self._house = house
        self._commit_s = commit_s

    def _store(self, key: str, data: bytes) -> None:
        super()._store(key, data)
        self._look()
        self._house.clock.advance(self._commit_s)
        if self._is_taken_over:
            take_over(self._house)

    def _look(self) -> None:
        now = self._house.clock.monotonic()
        self.renewed_s += [self._watch.unchanged_s("batch_1", lease, now) for lease in self._house.batches.leases()]


class _Watched:
    """Results of the house, with something done at each."""

    def __init__(self, house: PipelineHouse, at_each: Callable[[int], None]) -> None:
        self._results = house.results
        self._at_each = at_each

    def read(self, batch_id: str) -> Iterator[Any]:
        for row in self._results.read(batch_id):
            self._at_each(row[0])
            yield row
