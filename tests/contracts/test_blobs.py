"""What every kind of blob storage promises."""

from itertools import pairwise

import pytest

from app.domain.errors import BlobMissing
from app.domain.limits import MIB
from app.services.ports import Blobs

BAD_KEYS = [
    "",
    "files",
    "files/",
    "/files/a",
    "files/a/b",
    "../a",
    "files/..",
    "files/.",
    "a\0b/c",
    "files/a b",
    ".part/ab",
]


def put(blobs: Blobs, key: str, data: bytes) -> None:
    writer = blobs.create(key)
    writer.write(data)
    writer.commit()


def test_a_committed_blob_reads_back_as_written(blobs: Blobs) -> None:
    writer = blobs.create("files/a")
    sizes = [writer.write(b"one "), writer.write(b""), writer.write(b"two")]
    writer.commit()

    assert sizes == [4, 0, 3]
    assert blobs.size("files/a") == 7
    assert blobs.read("files/a", 0, 100) == b"one two"


def test_a_blob_without_bytes_is_a_blob(blobs: Blobs) -> None:
    put(blobs, "files/a", b"")

    assert blobs.size("files/a") == 0
    assert list(blobs.stream("files/a")) == []


def test_a_blob_is_not_there_before_it_is_committed(blobs: Blobs) -> None:
    writer = blobs.create("files/a")
    writer.write(b"x" * MIB)

    with pytest.raises(BlobMissing):
        blobs.size("files/a")
    writer.discard()


def test_a_discarded_blob_leaves_nothing_behind(blobs: Blobs) -> None:
    writer = blobs.create("files/a")
    writer.write(b"x")
    writer.discard()
    writer.discard()

    with pytest.raises(BlobMissing):
        blobs.read("files/a", 0, 1)
    assert list(blobs.stale(-1)) == []


def test_discarding_after_the_commit_keeps_the_blob(blobs: Blobs) -> None:
    writer = blobs.create("files/a")
    writer.write(b"kept")
    writer.commit()
    writer.discard()

    assert blobs.read("files/a", 0, 10) == b"kept"


def test_two_writers_at_once_do_not_mix(blobs: Blobs) -> None:
    first, second = blobs.create("files/a"), blobs.create("files/b")
    for _ in range(3):
        first.write(b"a" * MIB)
        second.write(b"b" * MIB)
    first.commit()
    second.commit()

    assert blobs.read("files/a", 0, 4 * MIB) == b"a" * 3 * MIB
    assert blobs.read("files/b", 0, 4 * MIB) == b"b" * 3 * MIB


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 3, b"abc"), (2, 2, b"cd"), (4, 100, b"ef"), (6, 1, b""), (100, 5, b""), (0, 0, b"")],
)
def test_a_read_returns_the_range_cut_at_the_end(blobs: Blobs, offset: int, length: int, expected: bytes) -> None:
    put(blobs, "files/a", b"abcdef")

    assert blobs.read("files/a", offset, length) == expected
    assert b"".join(blobs.stream("files/a", offset, length)) == expected


def test_a_stream_comes_in_pieces_of_up_to_a_mebibyte(blobs: Blobs) -> None:
    data = bytes(range(256)) * (10 * 1024) + b"end"
    put(blobs, "files/a", data)

    pieces = list(blobs.stream("files/a"))

    assert b"".join(pieces) == data
    assert [len(piece) for piece in pieces] == [MIB, MIB, MIB // 2 + 3]


def test_a_stream_from_an_offset_goes_to_the_end(blobs: Blobs) -> None:
    put(blobs, "files/a", b"abcdef")

    assert b"".join(blobs.stream("files/a", 2)) == b"cdef"


def test_a_missing_blob_shows_before_the_first_piece(blobs: Blobs) -> None:
    with pytest.raises(BlobMissing):
        blobs.stream("files/a")
    with pytest.raises(BlobMissing):
        blobs.read("files/a", 0, 1)
    with pytest.raises(BlobMissing):
        blobs.size("other/a")


def test_a_deleted_blob_is_missing_even_after_it_was_read(blobs: Blobs) -> None:
    put(blobs, "files/a", b"abc")
    blobs.read("files/a", 0, 3)

    blobs.delete("files/a")

    with pytest.raises(BlobMissing):
        blobs.read("files/a", 0, 3)


def test_deleting_what_is_not_there_is_no_error(blobs: Blobs) -> None:
    blobs.delete("files/a")


def test_a_stream_under_way_outlives_the_deletion(blobs: Blobs) -> None:
    put(blobs, "files/a", b"x" * (3 * MIB))
    pieces = blobs.stream("files/a")
    first = next(pieces)

    blobs.delete("files/a")

    assert len(first) + sum(map(len, pieces)) == 3 * MIB


def test_stale_names_old_blobs_and_unfinished_ones_that_delete_takes(blobs: Blobs) -> None:
    put(blobs, "files/a", b"x")
    unfinished = blobs.create("files/b")
    unfinished.write(b"x" * MIB)

    stale = set(blobs.stale(-1))
    for key in stale:
        blobs.delete(key)

    assert "files/a" in stale
    assert len(stale) == 2
    assert list(blobs.stale(-1)) == []
    unfinished.discard()


def test_nothing_is_stale_that_was_written_since(blobs: Blobs) -> None:
    put(blobs, "files/a", b"x")

    assert list(blobs.stale(3_600)) == []


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_could_lead_elsewhere_is_refused(blobs: Blobs, key: str) -> None:
    with pytest.raises(ValueError, match="no key of a blob"):
        blobs.create(key)
    with pytest.raises(ValueError, match="no key of a blob"):
        blobs.read(key, 0, 1)


def test_more_blobs_are_read_in_turn_than_stay_open(blobs: Blobs) -> None:
    keys = [f"files/{number}" for number in range(30)]
    for key in keys:
        put(blobs, key, key.encode())

    read = [blobs.read(key, 0, 100) for _ in range(2) for key in keys]

    assert read == [key.encode() for key in keys] * 2
    assert all(one != other for one, other in pairwise(read))
