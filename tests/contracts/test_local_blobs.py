"""What holds for blobs in a folder alone: durability, room, and other processes at the same folder."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path, PosixPath
from typing import Any

import pytest

from app.adapters.blobs.marker import MARKER
from app.domain.errors import BlobMissing, StorageFull, Unavailable
from app.domain.limits import MIB
from tests.contracts.storage import finish, mark, open_blobs, put
from tests.contracts.test_blobs import BAD_KEYS


def failing_with(code: int) -> Callable[..., Any]:
    def fail(*_: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_storage_full_and_leaves_no_half_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    blobs = open_blobs(mark(tmp_path))
    writer = blobs.create("files/a")
    monkeypatch.setattr(os, call, failing_with(code))

    with pytest.raises(StorageFull):
        finish(writer, b"x" * MIB)
    monkeypatch.undo()
    writer.discard()

    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [MARKER]


def test_a_folder_that_may_not_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = open_blobs(mark(tmp_path))
    monkeypatch.setattr(os, "mkdir", failing_with(errno.EROFS))

    with pytest.raises(Unavailable, match="can't be used"):
        blobs.create("files/a")


def test_a_commit_syncs_the_bytes_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    really_sync = os.fsync

    def sync(fd: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{fd}")).name, (tmp_path / "files" / "a").exists()))
        really_sync(fd)

    blobs = open_blobs(mark(tmp_path))
    monkeypatch.setattr(os, "fsync", sync)
    put(blobs, "files/a", b"x")

    assert synced[0][0].count("-") == 5
    assert synced[0][1] is False
    assert synced[-1] == ("files", True)


def test_a_large_blob_is_synced_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = [0]
    writer = open_blobs(mark(tmp_path)).create("files/a")
    monkeypatch.setattr(os, "write", lambda _fd, data: written.append(len(data)) or len(data))
    monkeypatch.setattr(os, "fsync", lambda _fd: written.append(0))

    for _ in range(200):
        writer.write(b"x" * MIB)
    # What is between two syncs, and between the last and the end.
    unsynced = [sum(sizes) for is_sync, sizes in groupby(written, lambda size: not size) if not is_sync]
    monkeypatch.undo()
    writer.discard()

    assert unsynced == [64 * MIB, 64 * MIB, 64 * MIB, 8 * MIB]


def test_a_blob_deleted_by_another_process_is_missing_here_too(tmp_path: Path) -> None:
    here, there = open_blobs(mark(tmp_path)), open_blobs(mark(tmp_path))
    put(here, "files/a", b"abc")
    here.read("files/a", 0, 3)

    there.delete("files/a")

    with pytest.raises(BlobMissing):
        here.read("files/a", 0, 3)


def open_below(folder: Path) -> list[str]:
    """Return the files in the folder that this process has open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [link for link in links if link.startswith(str(folder))]


def test_a_deleted_blob_is_not_kept_open(tmp_path: Path) -> None:
    """An open file takes room on the disk after its deletion."""
    here, there = open_blobs(mark(tmp_path)), open_blobs(mark(tmp_path))
    for key in ("files/a", "files/b"):
        put(here, key, b"abc")
        here.read(key, 0, 3)

    here.delete("files/a")
    there.delete("files/b")
    with pytest.raises(BlobMissing):
        here.read("files/b", 0, 3)

    assert open_below(tmp_path) == []


def test_a_sweep_keeps_no_folder_open_and_finds_nothing_in_a_new_storage(tmp_path: Path) -> None:
    blobs = open_blobs(mark(tmp_path))
    dropped = blobs.drop_abandoned()
    put(blobs, "files/a", b"abc")

    assert dropped == 0
    assert list(blobs.stale(-1)) == ["files/a"]
    assert blobs.drop_abandoned() == 0
    assert open_below(tmp_path) == []


@pytest.mark.parametrize("key", [key for key in BAD_KEYS if key != ".part/ab"])
def test_a_key_that_could_lead_elsewhere_is_not_deleted(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no key of a blob"):
        open_blobs(mark(tmp_path)).delete(key)


class AwayOnce(PosixPath):
    """A folder that is away when a name in it is looked up for the first time."""

    looks = 0

    def __truediv__(self, name: str) -> "AwayOnce":  # type: ignore[override]
        self.looks += 1
        return super().__truediv__(f"away/{name}" if self.looks == 1 else name)


def test_a_blob_is_deleted_though_the_storage_was_away_a_moment_ago(tmp_path: Path) -> None:
    put(open_blobs(mark(tmp_path)), "files/a", b"abc")

    open_blobs(AwayOnce(tmp_path)).delete("files/a")

    with pytest.raises(BlobMissing):
        open_blobs(tmp_path).size("files/a")


def test_a_storage_that_returns_other_bytes_fails_its_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = open_blobs(mark(tmp_path))
    monkeypatch.setattr(os, "pread", lambda _fd, length, _offset: bytes(length))

    with pytest.raises(Unavailable, match="other bytes than were written"):
        blobs.check()


def test_many_threads_read_many_blobs_and_no_file_stays_open(tmp_path: Path) -> None:
    blobs = open_blobs(mark(tmp_path))
    keys = [f"files/{number}" for number in range(40)]
    for key in keys:
        put(blobs, key, key.encode() * 100)
    open_before = len(os.listdir("/proc/self/fd"))

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda key: blobs.read(key, 0, len(key)), keys * 50))

    assert read == [key.encode() for key in keys * 50]
    assert len(os.listdir("/proc/self/fd")) - open_before <= 10


def test_what_is_no_blob_is_never_stale(tmp_path: Path) -> None:
    place = mark(tmp_path)
    for name in ("files/.nfs0001", "lost+found/x", ".snapshot/files", "files/a b"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).touch()
        os.utime(place / name, (0, 0))

    assert list(open_blobs(place).stale(1e9)) == []
