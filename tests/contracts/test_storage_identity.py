"""While the folder of the storage is away, or another is in its place, no blob is said to be gone."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.adapters.blobs.local import LocalBlobs
from app.adapters.blobs.marker import MARKER
from app.domain.errors import BlobMissing, Unavailable
from tests.contracts.storage import ANOTHERS, OURS, finish, mark, open_blobs, put

OLD_S = 1e9


def nothing(place: Path) -> None:
    pass


def an_empty_folder(place: Path) -> None:
    place.mkdir()


def a_file(place: Path) -> None:
    place.touch()


def another_deployments(place: Path) -> None:
    mark(place, ANOTHERS)
    (place / "files").mkdir()
    stranger = place / "files" / "stranger"
    stranger.touch()
    os.utime(stranger, (0, 0))


def a_torn_marker(place: Path) -> None:
    mark(place)
    (place / MARKER).write_bytes(OURS[:7].encode())


def an_empty_marker(place: Path) -> None:
    mark(place)
    (place / MARKER).write_bytes(b"")


def a_marker_of_zeros(place: Path) -> None:
    mark(place)
    (place / MARKER).write_bytes(bytes(20))


def a_link_to_nowhere(place: Path) -> None:
    place.symlink_to(place.parent / "nowhere")


def a_link_to_itself(place: Path) -> None:
    place.symlink_to(place)


WRONG_PLACES = [
    nothing,
    an_empty_folder,
    a_file,
    another_deployments,
    a_torn_marker,
    an_empty_marker,
    a_marker_of_zeros,
    a_link_to_nowhere,
    a_link_to_itself,
]
wrong_places = pytest.mark.parametrize("put_in_place", WRONG_PLACES, ids=lambda each: each.__name__.replace("_", " "))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder that the settings name, with a blob in it."""
    folder = mark(tmp_path / "blobs")
    put(open_blobs(folder), "files/a", b"abc")
    return folder


def swap(place: Path, put_in_place: Callable[[Path], None]) -> Path:
    aside = place.with_name("aside")
    place.rename(aside)
    put_in_place(place)
    return aside


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@wrong_places
def test_nothing_works_in_the_wrong_place_and_nothing_is_changed_there(
    place: Path, put_in_place: Callable[[Path], None]
) -> None:
    blobs = open_blobs(place)
    aside = swap(place, put_in_place)
    before = everything(place)

    calls: list[Callable[[], object]] = [
        lambda: blobs.create("files/b"),
        lambda: blobs.size("files/a"),
        lambda: blobs.read("files/a", 0, 3),
        lambda: blobs.stream("files/a"),
        lambda: blobs.delete("files/a"),
        lambda: list(blobs.stale(OLD_S)),
        blobs.drop_abandoned,
        blobs.check,
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            call()

    assert everything(place) == before
    assert (aside / "files" / "a").read_bytes() == b"abc"


@wrong_places
def test_a_process_that_runs_goes_on_once_the_folder_is_back(place: Path, put_in_place: Callable[[Path], None]) -> None:
    blobs = open_blobs(place)
    unread = open_blobs(place)
    blobs.read("files/a", 0, 3)
    aside = swap(place, put_in_place)
    with pytest.raises(Unavailable):
        unread.read("files/a", 0, 3)
    # The file that is open is the right one, wherever its folder is.
    assert blobs.read("files/a", 0, 3) == b"abc"

    if place.is_dir() and not place.is_symlink():
        place.rename(place.with_name("wrong"))
    else:
        place.unlink(missing_ok=True)
    aside.rename(place)

    assert unread.read("files/a", 0, 3) == b"abc"
    put(blobs, "files/b", b"b")
    assert blobs.read("files/b", 0, 1) == b"b"
    blobs.check()
    with pytest.raises(BlobMissing):
        blobs.read("files/c", 0, 1)


@wrong_places
def test_a_blob_that_was_begun_before_the_swap_is_not_committed(
    place: Path, put_in_place: Callable[[Path], None]
) -> None:
    writer = open_blobs(place).create("files/b")
    aside = swap(place, put_in_place)
    before = everything(place)

    with pytest.raises(Unavailable):
        finish(writer, b"x")
    writer.discard()

    assert everything(place) == before
    assert everything(aside) == {aside / MARKER, aside / "files" / "a"}


def test_a_copy_with_the_same_marker_is_not_mixed_with_what_was_begun_in_the_first(place: Path) -> None:
    writer = open_blobs(place).create("files/b")
    swap(place, lambda place: put(open_blobs(mark(place)), "files/a", b"abc"))

    with pytest.raises(Unavailable, match="replaced"):
        finish(writer, b"x")
    writer.discard()

    put(open_blobs(place), "files/b", b"y")
    assert open_blobs(place).read("files/b", 0, 1) == b"y"


def test_a_folder_swapped_right_before_the_rename_of_a_commit_leaves_nothing_in_either(place: Path) -> None:
    looks = 0

    def storage_id() -> str:
        # Asked for at each look at the marker: the second is the last before the rename.
        nonlocal looks
        looks += 1
        if looks == 2:
            swap(place, an_empty_folder)
        return OURS

    writer = LocalBlobs(place, storage_id).create("files/b")
    with pytest.raises(Unavailable, match="replaced"):
        finish(writer, b"x")
    writer.discard()

    aside = place.with_name("aside")
    assert everything(place) == set()
    assert everything(aside) == {aside / MARKER, aside / "files" / "a"}


def test_a_link_to_the_storage_is_as_good_as_the_storage(place: Path) -> None:
    link = place.with_name("link")
    link.symlink_to(place)
    blobs = open_blobs(link)
    put(blobs, "files/b", b"b")

    assert open_blobs(place).read("files/b", 0, 1) == b"b"

    link.unlink()
    link.symlink_to(mark(place.with_name("other"), ANOTHERS))
    with pytest.raises(Unavailable, match=ANOTHERS):
        blobs.create("files/c")


def test_a_blob_missing_in_the_right_folder_is_missing(place: Path) -> None:
    (place / "files" / "a").unlink()

    for look in (lambda: open_blobs(place).size("files/a"), lambda: open_blobs(place).read("files/a", 0, 1)):
        with pytest.raises(BlobMissing):
            look()
    (place / "files").rmdir()
    with pytest.raises(BlobMissing):
        open_blobs(place).read("files/a", 0, 1)
    open_blobs(place).delete("files/a")


def test_the_message_says_what_the_marker_has_to_hold(place: Path) -> None:
    (place / MARKER).unlink()

    with pytest.raises(Unavailable, match=f"has to hold {OURS}, and the folder has no marker"):
        open_blobs(place).create("files/b")


def test_while_the_database_does_not_say_what_the_marker_holds_the_storage_is_unavailable(place: Path) -> None:
    def away() -> str:
        raise Unavailable("The database does not answer.")

    blobs = LocalBlobs(place, away)
    with pytest.raises(Unavailable):
        blobs.create("files/b")
    with pytest.raises(Unavailable):
        blobs.read("files/missing", 0, 1)
    # What is found needs no look at the marker.
    assert blobs.read("files/a", 0, 3) == b"abc"


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ENOTCONN])
def test_a_stale_handle_is_opened_anew(place: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    blobs = open_blobs(place)
    blobs.read("files/a", 0, 3)
    really_read, faults = os.pread, [OSError(code, os.strerror(code))]

    def read(fd: int, length: int, offset: int) -> bytes:
        if faults:
            raise faults.pop()
        return really_read(fd, length, offset)

    monkeypatch.setattr(os, "pread", read)

    assert blobs.read("files/a", 0, 3) == b"abc"


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ETIMEDOUT, errno.EHOSTDOWN])
def test_a_read_that_keeps_failing_is_unavailable(place: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    blobs = open_blobs(place)
    blobs.read("files/a", 0, 3)
    pieces = blobs.stream("files/a")

    def fail(*_: object) -> bytes:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pread", fail)

    with pytest.raises(Unavailable):
        blobs.read("files/a", 0, 3)
    with pytest.raises(Unavailable):
        next(pieces)


def test_a_storage_that_works_passes_its_check_and_keeps_nothing_of_it(place: Path) -> None:
    before = everything(place)

    open_blobs(place).check()

    assert everything(place) == before


def test_a_read_only_storage_fails_its_check(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = open_blobs(place)
    really_open = os.open

    def refuse(path: str, flags: int, *args: int, **options: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return really_open(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(Unavailable, match="Read-only"):
        blobs.check()
