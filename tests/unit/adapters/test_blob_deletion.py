import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.domain.errors import Unavailable
from app.services.blob_removal import BlobRemoval
from tests.contracts.storage import mark, open_blobs, put


def test_a_folder_in_the_place_of_a_blob_does_not_hold_up_other_deletions(tmp_path: Path) -> None:
    blobs = open_blobs(mark(tmp_path))
    keys = [f"files/{name}" for name in "abc"]
    for key in keys:
        put(blobs, key, b"x")
    (tmp_path / "files/b").unlink()
    (tmp_path / "files/b").mkdir()
    removal = BlobRemoval(blobs)

    with capture_logs() as logs:
        for key in keys:
            removal.delete(key)
        removal.tell()

    assert [path.name for path in (tmp_path / "files").iterdir()] == ["b"]
    assert [(entry["event"], entry["blob"], entry["others"]) for entry in logs] == [("blob.not_deleted", "files/b", 0)]


def test_where_the_storage_is_away_a_deletion_ends_the_sweep(tmp_path: Path) -> None:
    blobs = open_blobs(mark(tmp_path))
    put(blobs, "files/a", b"x")
    tmp_path.rename(tmp_path.with_name("away"))

    with pytest.raises(Unavailable):
        BlobRemoval(blobs).delete("files/a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
def test_a_folder_that_only_another_user_may_open_does_not_hold_up_the_sweep(tmp_path: Path) -> None:
    blobs = open_blobs(mark(tmp_path))
    put(blobs, "files/a", b"x")
    (tmp_path / "snapshots").mkdir(0o000)

    assert list(blobs.stale(-1)) == ["files/a"]
