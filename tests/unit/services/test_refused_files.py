"""What becomes of the bytes of an upload whose row is refused."""

import pytest

from app.domain.errors import StorageFull, Unavailable
from app.domain.file import File
from app.services.files import FileService
from app.services.ports import Claim
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.fakes.stores import MemoryFileStore


class RefusingStore(MemoryFileStore):
    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self._fault = fault

    def add(self, file: File, claim: Claim | None = None) -> None:
        raise self._fault


class AwayOnDelete(MemoryBlobs):
    def delete(self, key: str) -> None:
        raise Unavailable("The storage is away.")


def upload(blobs: MemoryBlobs, fault: Exception) -> None:
    clock = FakeClock()
    files = FileService(RefusingStore(fault), blobs, clock, MemoryIdempotencyStore(MemoryDatabase()))
    begun = files.begin()
    begun.write(b"{}\n")
    files.create("tenant", begun, purpose="batch", filename="in.jsonl")


@pytest.mark.parametrize("fault", [StorageFull("The database is full."), ValueError("no such value")])
def test_the_bytes_go_at_once(fault: Exception) -> None:
    blobs = MemoryBlobs()

    with pytest.raises(type(fault)):
        upload(blobs, fault)

    assert (blobs.stored, blobs.unfinished) == ({}, set())


def test_where_the_row_may_have_been_stored_all_the_same_the_bytes_stay() -> None:
    blobs = MemoryBlobs()

    with pytest.raises(Unavailable):
        upload(blobs, Unavailable("The connection broke."))

    assert len(blobs.stored) == 1


def test_that_the_storage_went_away_meanwhile_does_not_hide_why() -> None:
    with pytest.raises(StorageFull):
        upload(AwayOnDelete(), StorageFull("The database is full."))
