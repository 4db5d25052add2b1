"""Validation beside others at the same batch, and in trouble on the way."""

from collections.abc import Iterator

import pytest

from app.domain.errors import StorageFull
from app.domain.lifecycle import Event, Status
from app.domain.limits import MIB
from tests.fakes.outside import MemoryBlobs
from tests.fakes.stores import break_leases
from tests.unit.services.validation_house import House, request


class ReadFrom(MemoryBlobs):
    """Takes inputs from other blobs; what is written stays here."""

    def __init__(self, inputs: MemoryBlobs) -> None:
        super().__init__()
        self._inputs = inputs

    def size(self, key: str) -> int:
        return self._inputs.size(key)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("data", [request("a"), b"broken"])
def test_a_batch_cancelled_meanwhile_is_left_alone(house: House, data: bytes) -> None:
    house.arrange(data)

    class CancelledWhileRead(ReadFrom):
        def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            house.batches.advance("batch_1", Event.CANCEL_REQUESTED, house.clock.now())
            return house.blobs.stream(key, offset, length)

    blobs = CancelledWhileRead(house.blobs)
    service = house.service_over(blobs)

    assert service.validate("batch_1") is False

    assert (house.batch.status, house.batch.errors, house.batch.plan_blob) == (Status.CANCELLING, (), None)
    assert (blobs.stored, blobs.unfinished) == ({}, set())


def test_a_batch_that_is_cancelled_is_not_read_to_its_end(house: House) -> None:
    house.arrange(request("a") + b"\n" * (60 * MIB))
    read: list[int] = []

    class CancelledLater(ReadFrom):
        def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            for piece in house.blobs.stream(key, offset, length):
                read.append(len(piece))
                if len(read) == 3:
                    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, house.clock.now())
                yield piece

    assert house.service_over(CancelledLater(house.blobs)).validate("batch_1") is False
    assert house.batch.status is Status.CANCELLING
    assert sum(read) <= 12 * MIB


def test_a_batch_that_is_validated_elsewhere_is_left_alone(house: House) -> None:
    house.arrange(request("a"))
    house.batches.lease("batch_1", "other")

    assert house.service.validate("batch_1") is False
    assert house.batch.status is Status.VALIDATING


def test_validating_twice_accepts_once(house: House) -> None:
    house.arrange(request("a"))

    outcomes = [house.service.validate("batch_1") for _ in range(2)]

    assert outcomes == [True, False]
    assert len(house.blobs.stored) == 2


def test_there_is_nothing_to_validate_where_there_is_no_batch(house: House) -> None:
    assert house.service.validate("batch_unknown") is False


def test_the_lease_is_renewed_while_the_file_is_read(house: House) -> None:
    house.arrange(b"\n".join(request(number, x="x" * MIB) for number in range(20)))
    renewals: list[int] = []

    class Slow(ReadFrom):
        def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            for piece in house.blobs.stream(key, offset, length):
                yield piece
                house.clock.advance(4)
                renewals.extend(lease.renewals for lease in house.batches.leases())

    assert house.service_over(Slow(house.blobs)).validate("batch_1") is True

    assert renewals == list(range(1, 22))


def test_a_lost_lease_ends_the_work(house: House) -> None:
    house.arrange(request("a") + b"\n" * (2 * MIB))

    class TakenOver(ReadFrom):
        def stream(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
            for piece in house.blobs.stream(key, offset, length):
                yield piece
                house.clock.advance(100)
                break_leases(house.batches)
                house.batches.lease("batch_1", "other")

    blobs = TakenOver(house.blobs)
    service = house.service_over(blobs)

    assert service.validate("batch_1") is False
    assert house.batch.status is Status.VALIDATING
    assert (blobs.stored, blobs.unfinished) == ({}, set())


def test_without_room_for_the_plan_the_batch_waits_to_be_tried_again(house: House) -> None:
    house.arrange(request("a"))
    house.blobs.capacity = len(request("a"))

    with pytest.raises(StorageFull):
        house.service.validate("batch_1")

    assert house.batch.status is Status.VALIDATING
    house.assert_nothing_left()
