import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app.domain.file import File
from app.services.ports import Claim, Known
from tests.unit.services.pipeline_house import NOW, PipelineHouse, new_batch

DAY_S = 86_400


@pytest.fixture
def house() -> PipelineHouse:
    return PipelineHouse()


def delete_files(house: PipelineHouse, files: int) -> None:
    """Add files that their owner has deleted."""
    for number in range(files):
        name = f"file-{number}"
        house.blobs.put(f"files/{name}", b"x")
        house.files.add(File(name, "tenant", "batch", "in.jsonl", 1, f"files/{name}", NOW))
        house.files.mark_deleted("tenant", name, NOW)


def told(logs: list[EventDict]) -> list[EventDict]:
    """Return the warnings."""
    return [entry for entry in logs if entry["log_level"] == "warning"]


def test_files_deleted_or_expired_go_with_their_bytes(house: PipelineHouse) -> None:
    for name, expires_at in (("gone", None), ("expired", NOW + 5), ("kept", NOW + 50)):
        house.blobs.put(f"files/{name}", b"x")
        house.files.add(File(f"file-{name}", "tenant", "batch", "in.jsonl", 1, f"files/{name}", NOW, expires_at))
    house.files.mark_deleted("tenant", "file-gone", NOW)
    house.clock.advance(10)

    house.upkeep.sweep()

    assert set(house.blobs.stored) == {"files/kept"}
    assert set(house.database.files) == {"file-kept"}


@pytest.mark.parametrize("stuck", ["files/file-0", "verdicts/file-0"])
def test_a_blob_that_can_not_be_deleted_does_not_hold_up_the_files_behind_it(house: PipelineHouse, stuck: str) -> None:
    delete_files(house, 450)
    house.blobs.put("verdicts/file-0", b"x")
    house.blobs.stuck = {stuck}

    with capture_logs() as logs:
        for _ in range(10):
            house.upkeep.sweep()

    assert set(house.blobs.stored) == {stuck}
    assert house.database.files == {}
    assert [(entry["event"], entry["blob"]) for entry in told(logs)] == [("blob.not_deleted", stuck)]


def test_more_bad_blobs_than_fit_in_a_sweep_do_not_hold_up_the_files_behind_them(house: PipelineHouse) -> None:
    delete_files(house, 450)
    house.blobs.stuck = {f"files/file-{number}" for number in range(400)}

    for _ in range(3):
        house.upkeep.sweep()

    assert set(house.blobs.stored) == house.blobs.stuck


def test_a_blob_that_could_not_be_deleted_goes_once_it_can_be(house: PipelineHouse) -> None:
    delete_files(house, 3)
    house.blobs.stuck = {"files/file-1"}
    house.upkeep.sweep()
    house.clock.advance(DAY_S + 1)
    house.blobs.put("results/orphan", b"x")
    house.clock.advance(DAY_S + 1)
    with capture_logs() as logs:
        house.upkeep.sweep_blobs()
    while_stuck = set(house.blobs.stored)
    house.blobs.stuck = set()

    house.upkeep.sweep_blobs()

    assert while_stuck == {"files/file-1"}
    assert [entry["event"] for entry in told(logs)] == ["blob.not_deleted"]
    assert house.blobs.stored == {}


def test_while_the_storage_is_away_files_are_kept_and_results_go(house: PipelineHouse) -> None:
    house.add_running("batch_done", total=1)
    house.record(0, batch_id="batch_done")
    house.finalization.finalize("batch_done")
    delete_files(house, 3)
    rows = set(house.database.files)
    house.blobs.is_away = True

    with capture_logs() as logs:
        for _ in range(3):
            house.upkeep.sweep()
            house.clock.advance(10)
    kept = set(house.database.files)
    house.blobs.is_away = False
    house.upkeep.sweep()

    assert kept == rows
    assert [entry["event"] for entry in told(logs)] == ["files.not_swept"]
    assert list(house.results.read("batch_done")) == []
    assert {key for key in house.blobs.stored if key.startswith("files/file-")} == set()


def test_the_verdict_on_a_file_goes_with_it(house: PipelineHouse) -> None:
    for name in ("gone", "kept"):
        house.blobs.put(f"files/{name}", b"x")
        house.blobs.put(f"verdicts/{name}", b"x")
        house.files.add(File(f"file-{name}", "tenant", "batch", "in.jsonl", 1, f"files/{name}", NOW))
    house.files.mark_deleted("tenant", "file-gone", NOW)

    house.upkeep.sweep()

    assert set(house.blobs.stored) == {"files/kept", "verdicts/kept"}


def test_the_input_of_a_running_batch_outlives_its_file(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.files.add(File("file-in", "tenant", "batch", "in.jsonl", 1, "files/batch_1", NOW))
    house.files.mark_deleted("tenant", "file-in", NOW)
    house.upkeep.sweep()
    while_running = set(house.blobs.stored)
    house.record(0)
    house.finalization.finalize("batch_1")

    house.upkeep.sweep()

    assert "files/batch_1" in while_running
    assert "files/batch_1" not in house.blobs.stored


def test_results_go_once_their_files_are_written(house: PipelineHouse) -> None:
    for batch_id in ("batch_done", "batch_running"):
        house.add_running(batch_id, total=2)
        house.record(0, 1, batch_id=batch_id)
    house.finalization.finalize("batch_done")

    house.upkeep.sweep()

    assert list(house.results.read("batch_done")) == []
    assert house.results.recorded("batch_running", 0, 2) == {0, 1}


def test_idempotency_keys_are_kept_for_a_day_though_the_clocks_differ_by_hours(house: PipelineHouse) -> None:
    house.batches.add(new_batch(), claim=Claim("key", "print"))
    house.clock.advance(DAY_S + 12 * 3_600)
    house.upkeep.sweep()
    kept = house.idempotency.get("tenant", "key")
    house.clock.advance(DAY_S)

    house.upkeep.sweep()

    assert kept == Known("print", "batch_1")
    assert house.idempotency.get("tenant", "key") is None


def test_old_blobs_without_an_owner_are_swept(house: PipelineHouse) -> None:
    house.add_running(total=1)
    house.files.add(File("file-in", "tenant", "batch", "in.jsonl", 1, "files/batch_1", NOW))
    house.blobs.put("results/orphan", b"x")
    unfinished = house.blobs.create("results/unfinished")
    unfinished.write(b"x")
    house.clock.advance(DAY_S + 1)
    house.blobs.put("results/young", b"x")

    house.upkeep.sweep_blobs()

    assert set(house.blobs.stored) == {"files/batch_1", "plans/batch_1", "results/young"}
    assert house.blobs.unfinished == set()
