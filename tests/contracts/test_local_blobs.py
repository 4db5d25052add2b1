"""What holds for blobs in a folder alone: durability, room, and other processes at the same folder."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from app.adapters.blobs.local import LocalBlobs
from app.domain.errors import BlobMissing, StorageFull, Unavailable
from app.domain.limits import MIB
from app.services.ports import BlobWriter


def failing_with(code: int) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def put(blobs: LocalBlobs, key: str, data: bytes) -> None:
    finish(blobs.create(key), data)


def finish(writer: BlobWriter, data: bytes) -> None:
    writer.write(data)
    writer.commit()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_storage_full_and_leaves_no_half_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    blobs = LocalBlobs(tmp_path)
    writer = blobs.create("files/a")
    monkeypatch.setattr(os, call, failing_with(code))

    with pytest.raises(StorageFull):
        finish(writer, b"x" * MIB)
    monkeypatch.undo()
    writer.discard()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_may_not_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", failing_with(errno.EROFS))

    with pytest.raises(Unavailable, match="can't be written to"):
        LocalBlobs(tmp_path).create("files/a")


@pytest.mark.parametrize("is_place_left", [True, False], ids=["a file in its place", "nothing in its place"])
def test_a_folder_that_went_away_says_so_and_takes_blobs_again_when_it_is_back(
    tmp_path: Path, is_place_left: bool
) -> None:
    folder, aside = tmp_path / "blobs", tmp_path / "aside"
    blobs = LocalBlobs(folder)
    writer = blobs.create("files/a")
    folder.rename(aside)
    if is_place_left:
        folder.touch()
        with pytest.raises(Unavailable, match="can't be written to"):
            blobs.create("files/b")

    with pytest.raises(Unavailable, match="can't be written to"):
        finish(writer, b"x")
    writer.discard()
    blobs.delete("files/a")

    folder.unlink(missing_ok=True)
    aside.rename(folder)
    put(blobs, "files/b", b"x")
    assert blobs.read("files/b", 0, 1) == b"x"


def test_a_commit_syncs_the_bytes_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    really_sync = os.fsync

    def sync(fd: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{fd}")).name, (tmp_path / "files" / "a").exists()))
        really_sync(fd)

    monkeypatch.setattr(os, "fsync", sync)
    put(LocalBlobs(tmp_path), "files/a", b"x")

    assert len(synced[0][0]) == 32
    assert synced[0][1] is False
    assert synced[-1] == ("files", True)


def test_a_large_blob_is_synced_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = [0]
    monkeypatch.setattr(os, "write", lambda _fd, data: written.append(len(data)) or len(data))
    monkeypatch.setattr(os, "fsync", lambda _fd: written.append(0))
    writer = LocalBlobs(tmp_path).create("files/a")

    for _ in range(200):
        writer.write(b"x" * MIB)
    # What is between two syncs, and between the last and the end.
    unsynced = [sum(sizes) for is_sync, sizes in groupby(written, lambda size: not size) if not is_sync]
    monkeypatch.undo()
    writer.discard()

    assert unsynced == [64 * MIB, 64 * MIB, 64 * MIB, 8 * MIB]


def test_a_blob_deleted_by_another_process_is_missing_here_too(tmp_path: Path) -> None:
    here, there = LocalBlobs(tmp_path), LocalBlobs(tmp_path)
    put(here, "files/a", b"abc")
    here.read("files/a", 0, 3)

    there.delete("files/a")

    with pytest.raises(BlobMissing):
        here.read("files/a", 0, 3)


def test_many_threads_read_many_blobs_and_no_file_stays_open(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    keys = [f"files/{number}" for number in range(40)]
    for key in keys:
        put(blobs, key, key.encode() * 100)
    open_before = len(os.listdir("/proc/self/fd"))

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda key: blobs.read(key, 0, len(key)), keys * 50))

    assert read == [key.encode() for key in keys * 50]
    assert len(os.listdir("/proc/self/fd")) - open_before <= 10
