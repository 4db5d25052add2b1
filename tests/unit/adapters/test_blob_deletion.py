"""Deletion of blobs beside blobs and folders that can't be deleted or opened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.domain.errors import Unavailable
from app.services.blob_removal import BlobRemoval
from tests.contracts.storage import mark, open_blobs, put

# Prints the blobs that a process without root's privileges finds.
FIND_STALE = """
import sys
from pathlib import Path
from tests.contracts.storage import open_blobs
print(*open_blobs(Path(sys.argv[1])).stale(-1))
"""


def stale_blobs_without_privileges(folder: Path) -> list[str]:
    """Return the keys of stale blobs, found in a user namespace: there, root may open no folder of another user."""
    command = [sys.executable, "-c", FIND_STALE, str(folder)]
    if os.geteuid() == 0:
        if subprocess.run(["unshare", "-U", "true"], check=False, capture_output=True).returncode != 0:
            pytest.skip("root's privileges can't be dropped: the system allows no user namespace")
        command = ["unshare", "-U", *command]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()


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


def test_a_folder_that_only_another_user_may_open_does_not_hold_up_the_sweep(tmp_path: Path) -> None:
    put(open_blobs(mark(tmp_path)), "files/a", b"x")
    (tmp_path / "snapshots").mkdir(0o000)

    assert stale_blobs_without_privileges(tmp_path) == ["files/a"]
