"""Bytes are written before the row that names them: where the write of the row was undone, the bytes go at once."""

import pytest

from app.domain.batch import Batch
from app.domain.errors import NotWritten
from app.domain.file import File
from app.domain.lifecycle import Status
from app.services.files import FileService
from app.services.ports import Claim, Planned, Written
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore
from tests.unit.services.pipeline_house import PipelineHouse
from tests.unit.services.validation_house import House, request


class LockedFiles(MemoryFileStore):
    def add(self, file: File, claim: Claim | None = None) -> None:
        raise NotWritten("Another holds a lock.")


class LockedBatches(MemoryBatchStore):
    """A store whose rows others hold whenever a batch is accepted or ended."""

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        raise NotWritten("Another holds a lock.")

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        raise NotWritten("Another holds a lock.")


def test_an_upload_leaves_no_bytes() -> None:
    clock, blobs = FakeClock(), MemoryBlobs()
    files = FileService(LockedFiles(), blobs, clock, MemoryIdempotencyStore(MemoryDatabase()))

    with pytest.raises(NotWritten):
        files.create("tenant", files.begin(), purpose="batch")

    assert (blobs.stored, blobs.unfinished) == ({}, set())


def test_a_validation_leaves_no_plan() -> None:
    house = House()
    house.arrange(request("a"))
    house.batches = LockedBatches(house.batches._db)

    with pytest.raises(NotWritten):
        house.service_over(house.blobs).validate("batch_1")

    assert house.batch.status is Status.VALIDATING
    assert (list(house.blobs.stored), house.blobs.unfinished) == (["files/in"], set())


def test_the_end_of_a_batch_leaves_no_output() -> None:
    house = PipelineHouse()
    house.add_running(total=1)
    house.record(0)
    house.batches = LockedBatches(house.database)
    before = set(house.blobs.stored)

    with pytest.raises(NotWritten):
        house.finalization_over(house.results).finalize("batch_1")

    assert house.batch().status is Status.FINALIZING
    assert (set(house.blobs.stored), house.blobs.unfinished) == (before, set())
