from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.domain.errors import StateConflict
from app.domain.lifecycle import Status
from tests.fakes.outside import MemoryBlobs
from tests.unit.services.pipeline_house import NOW, PipelineHouse


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


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
    house.batches.lease("batch_1", "another", NOW, 30)

    assert house.finalization.finalize("batch_1") is False

    assert house.batch().status is Status.IN_PROGRESS
    assert house.database.files == {}


def test_one_that_died_is_followed_by_another_once_its_lease_ends(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.record(0)
    house.batches.lease("batch_1", "dead", NOW, 30)
    house.batches.seal("batch_1", "dead", NOW)

    house.clock.advance(31)

    assert house.finalization.finalize("batch_1") is True
    assert house.batch().status is Status.COMPLETED


@pytest.mark.parametrize(("lines", "each_s"), [(2_000, 0.05), (50, 2.0)])
def test_the_lease_is_renewed_while_the_files_are_written(house: PipelineHouse, lines: int, each_s: float) -> None:
    house.add_running(total=lines)
    house.record(*range(lines))
    others: list[bool] = []

    def slowly(positions: int) -> None:
        house.clock.advance(each_s)
        others.append(house.batches.lease("batch_1", "another", house.clock.now(), 30))

    house.finalization_over(_Watched(house, slowly)).finalize("batch_1")

    assert house.batch().status is Status.COMPLETED
    assert not any(others)


def test_one_that_lost_its_lease_writes_nothing(house: PipelineHouse) -> None:
    house.add_running(total=2_000)
    house.record(*range(2_000))

    def lose(position: int) -> None:
        if position == 100:
            house.clock.advance(60)
            house.batches.lease("batch_1", "another", house.clock.now(), 30)

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
        house.batches.lease("batch_1", "another", house.clock.now(), 30)

    with pytest.raises(StateConflict):
        house.finalization_over(_Watched(house, lose)).finalize("batch_1")

    assert house.batch().status is Status.FINALIZING
    assert set(house.blobs.stored) == {"files/batch_1", "plans/batch_1"}


def test_each_file_has_the_whole_lease_for_its_commit(house: PipelineHouse) -> None:
    house.add_running(total=2)
    house.record(0)
    house.record(1, ok=False)
    blobs = _SlowBlobs(house, commit_s=4.0)

    assert house.finalization_over(house.results, blobs).finalize("batch_1") is True

    assert house.batch().status is Status.COMPLETED
    assert blobs.others == [False, False]


def test_one_that_lost_its_lease_between_its_files_leaves_neither(house: PipelineHouse) -> None:
    house.add_running(total=2)
    house.record(0)
    house.record(1, ok=False)
    blobs = _SlowBlobs(house, commit_s=7.0)

    with pytest.raises(StateConflict):
        house.finalization_over(house.results, blobs).finalize("batch_1")

    assert house.batch().status is Status.FINALIZING
    assert set(blobs.stored) == {"files/batch_1", "plans/batch_1"}
    assert blobs.unfinished == set()


class _SlowBlobs(MemoryBlobs):
    """Blobs of the house whose commits take long; after each another finalizer asks for the batch."""

    def __init__(self, house: PipelineHouse, commit_s: float) -> None:
        super().__init__(house.clock)
        self.stored = dict(house.blobs.stored)
        self.others: list[bool] = []
        self._house = house
        self._commit_s = commit_s

    def _store(self, key: str, data: bytes) -> None:
        super()._store(key, data)
        self._house.clock.advance(self._commit_s)
        self.others.append(self._house.batches.lease("batch_1", "another", self._house.clock.now(), 30))


class _Watched:
    """Results of the house, with something done at each."""

    def __init__(self, house: PipelineHouse, at_each: Callable[[int], None]) -> None:
        self._results = house.results
        self._at_each = at_each

    def read(self, batch_id: str) -> Iterator[Any]:
        for row in self._results.read(batch_id):
            self._at_each(row[0])
            yield row
