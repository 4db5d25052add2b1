import errno
import json
from typing import Any

import pytest

from app.domain.batch import Usage
from app.domain.errors import StorageFull, Unavailable
from app.domain.lifecycle import Event, Status
from app.domain.limits import MAX_FILE_LIFETIME_S
from app.domain.result import BATCH_EXPIRED, Met
from app.services.ports import BlobWriter
from tests.fakes.outside import FakeClock, MemoryBlobs, MemoryBlobWriter
from tests.fakes.stores import break_leases
from tests.unit.services.pipeline_house import NOW, PipelineHouse, result_of


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def lines_of(house: PipelineHouse, file_id: str | None) -> list[Any]:
    assert file_id is not None
    data = house.blobs.stored[house.database.files[file_id].file.blob]
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def custom_ids(house: PipelineHouse, file_id: str | None) -> list[str]:
    return [line["custom_id"] for line in lines_of(house, file_id)]


def test_a_batch_recorded_whole_is_completed_with_its_files(house: PipelineHouse) -> None:
    house.add_running(total=4)
    house.dispatch_all()
    house.record(3, 0, 1)
    house.record(2, ok=False)

    assert house.finalization.finalize("batch_1") is True

    batch = house.batch()
    assert (batch.status, batch.completed_at, batch.sealed_at) == (Status.COMPLETED, NOW, NOW)
    assert custom_ids(house, batch.output_file_id) == ["id-0", "id-1", "id-3"]
    assert custom_ids(house, batch.error_file_id) == ["id-2"]
    assert batch.usage == Usage(12, 4, 8, 0)


def test_the_files_belong_to_the_tenant_and_last_as_long_as_asked_for(house: PipelineHouse) -> None:
    house.add_running("batch_1", total=1, output_lifetime_s=7_200)
    house.add_running("batch_2", total=1)
    for batch_id in ("batch_1", "batch_2"):
        house.record(0, batch_id=batch_id)
        house.finalization.finalize(batch_id)

    first, second = [
        house.database.files[house.batch(name).output_file_id or ""].file for name in ("batch_1", "batch_2")
    ]

    assert (first.tenant_id, first.purpose, first.filename) == ("tenant", "batch_output", "batch_1_output.jsonl")
    assert first.bytes == len(house.blobs.stored[first.blob])
    assert first.expires_at == NOW + 7_200
    assert second.expires_at == NOW + MAX_FILE_LIFETIME_S


@pytest.mark.parametrize("ok", [True, False])
def test_a_file_that_would_be_empty_is_not_made(house: PipelineHouse, ok: bool) -> None:
    house.add_running(total=2)
    house.record(0, 1, ok=ok)

    house.finalization.finalize("batch_1")

    batch = house.batch()
    assert batch.status is Status.COMPLETED
    assert (batch.output_file_id is None, batch.error_file_id is None) == (not ok, ok)


@pytest.mark.parametrize(
    ("event", "ending", "code"),
    [
        (Event.CANCEL_REQUESTED, Status.CANCELLED, "batch_cancelled"),
        (Event.WINDOW_ELAPSED, Status.EXPIRED, "batch_expired"),
    ],
)
def test_lines_that_never_ran_are_errors_in_their_place(
    house: PipelineHouse, event: Event, ending: Status, code: str
) -> None:
    house.add_running(total=1_300)
    house.record(3, 700)
    house.record(5, ok=False)
    house.batches.advance("batch_1", event, NOW)

    house.finalization.finalize("batch_1")

    batch = house.batch()
    errors = lines_of(house, batch.error_file_id)
    assert batch.status is ending
    assert custom_ids(house, batch.output_file_id) == ["id-3", "id-700"]
    assert [line["custom_id"] for line in errors] == [f"id-{at}" for at in range(1_300) if at not in (3, 700)]
    assert {line["error"]["code"] for line in errors if line["error"]} == {code}
    assert errors[4]["response"]["status_code"] == 400
    # What never ran did not fail.
    assert (batch.completed, batch.failed) == (2, 1)


def test_a_line_that_never_had_a_result_says_what_it_met(house: PipelineHouse) -> None:
    house.add_running(total=3)
    house.record(1)
    house.trials.note({("batch_1", 2): Met(14, "503 Service Unavailable")})
    house.batches.advance("batch_1", Event.WINDOW_ELAPSED, NOW)

    house.finalization.finalize("batch_1")

    first, last = (line["error"]["message"] for line in lines_of(house, house.batch().error_file_id))
    assert first == BATCH_EXPIRED[1]
    assert last == f"{first} It was called for 14 times; the last call came to: 503 Service Unavailable"


def test_what_only_the_running_batch_needed_is_deleted(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.record(0)

    house.finalization.finalize("batch_1")

    assert "plans/batch_1" not in house.blobs.stored
    assert "files/batch_1" in house.blobs.stored
    assert house.queue.forgotten == ["batch_1"]


@pytest.mark.parametrize("recorded", [0, 9])
def test_a_batch_with_lines_missing_is_left_to_run(house: PipelineHouse, recorded: int) -> None:
    house.add_running(total=10)
    house.record(*range(recorded))

    assert house.finalization.finalize("batch_1") is False

    assert house.batch().status is Status.IN_PROGRESS
    assert house.batches.lease("batch_1", "next") is True


def test_a_full_disk_leaves_nothing_behind_and_the_batch_to_be_tried_again(house: PipelineHouse) -> None:
    house.add_running(total=500)
    house.record(*range(499))
    house.record(499, ok=False)
    used = sum(map(len, house.blobs.stored.values()))
    house.blobs.capacity = used + 1_000

    with pytest.raises(StorageFull):
        house.finalization.finalize("batch_1")
    left = set(house.blobs.stored)
    house.blobs.capacity = None
    break_leases(house.batches)

    assert left == {"files/batch_1", "plans/batch_1"}
    assert house.finalization.finalize("batch_1") is True
    # The try that failed for want of room is none that the batch has used up.
    assert (house.batch().status, house.batch().finalize_tries) == (Status.COMPLETED, 1)


def test_a_failed_try_pauses_until_its_lease_is_broken(house: PipelineHouse) -> None:
    house.add_running(total=500)
    house.record(*range(500))
    house.blobs.capacity = 0

    with pytest.raises(StorageFull):
        house.finalization.finalize("batch_1")

    assert house.batches.stalled(10) == []
    break_leases(house.batches)
    assert [batch.id for batch in house.batches.stalled(10)] == ["batch_1"]


def test_a_broker_that_is_away_does_not_undo_an_ending(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.record(0)
    house.queue.fail()

    with pytest.raises(Unavailable):
        house.finalization.finalize("batch_1")

    assert house.batch().status is Status.COMPLETED
    assert custom_ids(house, house.batch().output_file_id) == ["id-0"]


def test_files_are_written_in_pieces_of_bounded_size(house: PipelineHouse) -> None:
    house.add_running(total=3_000)
    house.results.record(
        [result_of(position)._replace(payload=b'{"x":"%b"}' % (b"x" * 1_000)) for position in range(3_000)]
    )
    blobs = _CountingBlobs(house.clock)
    blobs.stored = house.blobs.stored

    house.finalization_over(house.results, blobs).finalize("batch_1")

    assert max(blobs.pieces) < 300 * 1024
    assert sum(blobs.pieces) > 3_000_000


class _CountingBlobs(MemoryBlobs):
    """Keeps the sizes of what was written."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.pieces: list[int] = []

    def create(self, key: str) -> "_CountingWriter":
        return _CountingWriter(super().create(key), self.pieces)


class _CountingWriter:
    def __init__(self, writer: MemoryBlobWriter, pieces: list[int]) -> None:
        self._writer = writer
        self._pieces = pieces

    def write(self, data: bytes) -> int:
        self._pieces.append(len(data))
        return self._writer.write(data)

    def commit(self) -> None:
        self._writer.commit()

    def discard(self) -> None:
        self._writer.discard()


def test_a_fault_that_is_not_known_to_pass_uses_up_a_try(house: PipelineHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    house.add_running(total=1)
    house.record(0)

    def fail(_key: str) -> BlobWriter:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(house.blobs, "create", fail)
    with pytest.raises(OSError, match="Input/output error"):
        house.finalization.finalize("batch_1")

    assert house.batch().finalize_tries == 1


@pytest.mark.parametrize("damage", ["plan", "input"])
def test_a_batch_whose_plan_or_input_is_missing_is_mended_before_its_files_are_written(damage: str) -> None:
    house = PipelineHouse()
    house.add_running(total=2)
    house.record(0)
    house.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)
    house.blobs.delete("plans/batch_1" if damage == "plan" else "files/batch_1")

    assert house.finalization_over(house.results).finalize("batch_1") is False

    assert house.queue.validated == ["batch_1"]
    assert house.batch().finalize_tries == 0
    # Whoever mends it need not wait for a lease.
    assert house.batches.lease("batch_1", "mender")
