"""What every store of files promises."""

from typing import Any

import pytest

from app.domain.errors import NotFound
from app.domain.lifecycle import Event, Status
from tests.contracts.conftest import NOW, Stores


def ids_of(stores: Stores, *, now: float = NOW, **choice: object) -> list[str]:
    values: dict[str, Any] = {"purpose": None, "after": None, "limit": 100, "newest_first": True}
    return [file.id for file in stores.files.page("tenant", now, **(values | choice))]


def test_a_file_reads_back_as_it_was_added(stores: Stores) -> None:
    file = stores.add_file(filename="ünïcode 名.jsonl", bytes=200 * 2**20, expires_at=NOW + 5)

    assert stores.files.get("tenant", file.id, NOW) == file


def test_another_tenant_sees_no_file(stores: Stores) -> None:
    stores.add_file()

    assert stores.files.get("stranger", "file-1", NOW) is None
    assert stores.files.mark_deleted("stranger", "file-1", NOW) is False
    assert stores.files.page("stranger", NOW, purpose=None, after=None, limit=9, newest_first=True) == []


def test_each_file_of_a_tenant_is_found_by_its_own_id(stores: Stores) -> None:
    files = [stores.add_file(f"file-{number}") for number in range(3)]

    assert [stores.files.get("tenant", file.id, NOW) for file in files] == files
    assert stores.files.get("tenant", "file-unknown", NOW) is None


def test_a_deleted_file_is_gone_at_once_and_for_good(stores: Stores) -> None:
    stores.add_file()

    assert stores.files.mark_deleted("tenant", "file-1", NOW) is True
    assert stores.files.get("tenant", "file-1", NOW) is None
    assert ids_of(stores) == []
    assert stores.files.mark_deleted("tenant", "file-1", NOW + 1) is False


def test_deleting_a_file_deletes_no_other(stores: Stores) -> None:
    kept = stores.add_file("file-kept")
    stores.add_file("file-1")

    assert stores.files.mark_deleted("tenant", "file-1", NOW) is True
    stores.files.remove("file-1")

    assert stores.files.get("tenant", "file-kept", NOW) == kept
    assert stores.files.removable(NOW, 10) == []


def test_a_file_is_gone_from_the_instant_it_expires(stores: Stores) -> None:
    stores.add_file(expires_at=NOW + 10)

    assert stores.files.get("tenant", "file-1", NOW + 9) is not None
    assert stores.files.get("tenant", "file-1", NOW + 10) is None
    assert ids_of(stores, now=NOW + 10) == []


def test_pages_go_both_ways_and_by_purpose(stores: Stores) -> None:
    for number in range(4):
        purpose = "batch" if number % 2 else "batch_output"
        stores.add_file(f"file-{number}", created_at=NOW + number, purpose=purpose)

    assert ids_of(stores) == ["file-3", "file-2", "file-1", "file-0"]
    assert ids_of(stores, newest_first=False, limit=2) == ["file-0", "file-1"]
    assert ids_of(stores, after="file-2") == ["file-1", "file-0"]
    assert ids_of(stores, after="file-2", newest_first=False) == ["file-3"]
    assert ids_of(stores, purpose="batch") == ["file-3", "file-1"]
    assert ids_of(stores, purpose="batch", after="file-3", limit=1) == ["file-1"]


def test_hidden_files_take_no_room_on_a_page(stores: Stores) -> None:
    for number in range(4):
        stores.add_file(f"file-{number}", created_at=NOW + number)
    stores.files.mark_deleted("tenant", "file-2", NOW)

    assert ids_of(stores, limit=2) == ["file-3", "file-1"]


def test_a_page_after_nothing_known_is_not_found(stores: Stores) -> None:
    stores.add_file("file-theirs", tenant_id="other")

    with pytest.raises(NotFound):
        ids_of(stores, after="file-unknown")
    with pytest.raises(NotFound):
        ids_of(stores, after="file-theirs")


def test_deleted_and_expired_files_are_removable(stores: Stores) -> None:
    stores.add_file("file-deleted")
    stores.add_file("file-expired", expires_at=NOW + 1)
    stores.add_file("file-kept", expires_at=NOW + 99)
    stores.files.mark_deleted("tenant", "file-deleted", NOW)

    removable = stores.files.removable(NOW + 1, 10)

    assert {file.id for file in removable} == {"file-deleted", "file-expired"}
    assert len(stores.files.removable(NOW + 1, 1)) == 1


def test_expired_files_that_batches_still_read_leave_room_for_other_expired_files(stores: Stores) -> None:
    stores.add_file("file-in", blob="files/in", expires_at=NOW + 1)
    stores.add_file("file-gone", expires_at=NOW + 2)
    stores.add_running(input_blob="files/in")

    looks = [[file.id for file in stores.files.removable(NOW + 5, 1)] for _ in range(3)]

    assert looks[-1] == ["file-gone"]


def test_a_batch_that_reads_another_file_keeps_no_file_from_being_removable(stores: Stores) -> None:
    stores.add_file("file-in", blob="files/in")
    stores.add_file("file-gone", blob="files/gone")
    stores.add_running(input_blob="files/in")
    stores.files.mark_deleted("tenant", "file-gone", NOW)

    assert [file.id for file in stores.files.removable(NOW, 10)] == ["file-gone"]


def test_a_file_that_an_unfinished_batch_reads_is_not_removable(stores: Stores) -> None:
    stores.add_file("file-in", blob="files/in")
    stores.add_running(input_blob="files/in")
    stores.files.mark_deleted("tenant", "file-in", NOW)

    assert stores.files.removable(NOW, 10) == []
    stores.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)
    stores.batches.advance("batch_1", Event.FILES_WRITTEN, NOW)
    assert [file.id for file in stores.files.removable(NOW, 10)] == ["file-in"]


def test_no_batch_is_made_of_a_file_once_it_is_removable(stores: Stores) -> None:
    stores.add_file("file-in", blob="files/in", expires_at=NOW + 1)
    stores.add_file("file-gone")
    stores.files.mark_deleted("tenant", "file-gone", NOW)

    assert len(stores.files.removable(NOW + 1, 10)) == 2

    # By a clock that is behind, the file has not expired yet.
    for file_id in ("file-in", "file-gone", "file-unknown"):
        with pytest.raises(NotFound) as caught:
            stores.add_batch(input_file_id=file_id, input_at=NOW)
        assert caught.value.param == "input_file_id"
    assert stores.batches.find("batch_1") is None


def test_a_batch_is_made_of_a_file_of_its_tenant_alone(stores: Stores) -> None:
    stores.add_file("file-in", tenant_id="other")
    with pytest.raises(NotFound):
        stores.add_batch(input_file_id="file-in", input_at=NOW)

    stores.add_file("file-own")
    stores.add_batch(input_file_id="file-own", input_at=NOW)

    assert stores.batches.find("batch_1") is not None


def test_no_batch_is_made_of_an_unknown_file_beside_a_known_file(stores: Stores) -> None:
    stores.add_file("file-known")

    with pytest.raises(NotFound):
        stores.add_batch(input_file_id="file-unknown", input_at=NOW)

    assert stores.batches.find("batch_1") is None


def test_a_removed_file_leaves_no_row(stores: Stores) -> None:
    stores.add_file()
    stores.files.mark_deleted("tenant", "file-1", NOW)

    stores.files.remove("file-1")
    stores.files.remove("file-1")

    assert stores.files.removable(NOW, 10) == []
    assert stores.files.blobs(["files/file-1"]) == set()


def test_blobs_are_owned_by_files_and_unfinished_batches(stores: Stores) -> None:
    stores.add_file("file-1", blob="files/one")
    stores.add_file("file-2", blob="files/two")
    stores.files.mark_deleted("tenant", "file-2", NOW)
    stores.add_running("batch_1")
    stores.add_in(Status.COMPLETED, "batch_ended")
    asked = ["files/one", "files/two", "plans/batch_1", "plans/batch_ended", "files/none"]

    assert stores.files.blobs(asked) == {"files/one", "files/two", "plans/batch_1"}
    assert stores.files.blobs([]) == set()
