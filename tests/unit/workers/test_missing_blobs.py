"""Bytes that a worker can't read: told once for many lines, and mended by others."""

import pytest
from structlog.testing import capture_logs

from app.domain.errors import BlobMissing, Unavailable
from tests.fakes.broker import RecordingQueue
from tests.fakes.outside import FakeClock
from workers.missing_blobs import MissingBlobs

GONE = BlobMissing("There is no blob plans/x.")
AWAY = Unavailable("The storage can't be used.")


class House:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.queue = RecordingQueue()
        self.missing = MissingBlobs(self.queue, self.clock.now)


@pytest.fixture
def house() -> House:
    return House()


def test_a_batch_whose_bytes_are_missing_is_mended_once_for_all_its_lines(house: House) -> None:
    with capture_logs() as logs:
        for _ in range(1_000):
            house.missing.note("batch_1", GONE)
        house.missing.note("batch_2", GONE)

    assert house.queue.validated == ["batch_1", "batch_2"]
    assert [(entry["event"], entry["batch_id"]) for entry in logs] == [
        ("blob.missing", "batch_1"),
        ("blob.missing", "batch_2"),
    ]


def test_mending_is_asked_for_again_while_bytes_are_missing(house: House) -> None:
    house.missing.note("batch_1", GONE)
    house.clock.advance(6)
    house.missing.note("batch_1", GONE)

    assert house.queue.validated == ["batch_1", "batch_1"]


def test_a_storage_that_is_away_is_told_at_times_and_mended_by_nobody(house: House) -> None:
    with capture_logs() as logs:
        for _ in range(1_000):
            house.missing.note("batch_1", AWAY)
        house.clock.advance(11)
        house.missing.note("batch_1", AWAY)

    assert house.queue.validated == []
    assert [(entry["event"], entry["times"]) for entry in logs] == [("lines.unread", 1), ("lines.unread", 1_000)]


def test_a_broker_that_is_away_does_no_harm(house: House) -> None:
    house.queue.fail()

    with capture_logs() as logs:
        house.missing.note("batch_1", GONE)

    assert [entry["event"] for entry in logs] == ["blob.missing", "lines.unread"]
