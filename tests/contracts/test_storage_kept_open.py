"""A folder that is not used is not kept open: an operator who mounted the wrong one can unmount it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from app.adapters.blobs.marker import MARKER
from app.domain.errors import BlobMissing, Unavailable
from tests.contracts.storage import ANOTHERS, mark, open_blobs

_OPEN_FILES = Path("/proc/self/fd")

pytestmark = pytest.mark.skipif(not _OPEN_FILES.is_dir(), reason="The system does not list open files in /proc.")


def errors_of(calls: Sequence[Callable[[], object]]) -> list[Exception]:
    """Return the error of each call, with a traceback that refers to all that the call had in hand."""
    errors: list[Exception] = []
    for call in calls:
        try:
            call()
        except (BlobMissing, Unavailable) as fault:
            errors.append(fault)
    return errors


def open_below(folder: Path) -> list[Path]:
    """Return the open files of this process that are the folder or in it."""
    found = []
    for each in _OPEN_FILES.iterdir():
        # The descriptor that lists the folder is closed by now.
        with suppress(FileNotFoundError):
            found.append(each.readlink())
    return [path for path in found if path.is_relative_to(folder)]


@pytest.mark.parametrize("marker", [None, b"", ANOTHERS.encode()], ids=["no marker", "an empty one", "another's"])
def test_a_wrong_folder_is_not_kept_open_while_somebody_has_the_error(tmp_path: Path, marker: bytes | None) -> None:
    place = tmp_path / "blobs"
    place.mkdir()
    if marker is not None:
        (place / MARKER).write_bytes(marker)
    blobs = open_blobs(place)
    calls: list[Callable[[], object]] = [
        lambda: blobs.create("files/b"),
        lambda: blobs.size("files/a"),
        lambda: blobs.read("files/a", 0, 3),
        lambda: blobs.stream("files/a"),
        lambda: blobs.delete("files/a"),
        lambda: list(blobs.stale(0)),
        blobs.drop_abandoned,
        blobs.check,
    ]

    errors = errors_of(calls)

    assert [type(error) for error in errors] == [Unavailable] * len(calls)
    assert open_below(place) == []


def test_the_storage_is_not_kept_open_by_errors_over_blobs_that_are_missing_or_can_not_be_begun(tmp_path: Path) -> None:
    place = mark(tmp_path / "blobs")
    # No part can be made in it.
    (place / ".part").touch()
    blobs = open_blobs(place)
    calls: list[Callable[[], object]] = [
        lambda: blobs.size("files/missing"),
        lambda: blobs.stream("files/missing"),
        lambda: blobs.create("files/b"),
        lambda: list(blobs.stale(0)),
        blobs.check,
    ]

    errors = errors_of(calls)

    assert [type(error) for error in errors] == [BlobMissing, BlobMissing, Unavailable, Unavailable, Unavailable]
    assert open_below(place) == []
