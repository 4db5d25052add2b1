"""Byte strings by key, as the use cases see them.

Every method raises Unavailable if the storage can't be used, or is not this deployment's storage: BlobMissing means
that the right storage lacks the blob.
"""

from collections.abc import Iterator
from typing import Protocol

from app.domain.errors import BlobMissing
from app.domain.limits import MIB

# A piece of a blob, for a reader that takes pieces as fast as they come.
PIECE_BYTES = MIB


class BlobWriter(Protocol):
    """A blob during its writing: the key exists only once `commit` returned."""

    def write(self, data: bytes) -> int:
        """Append bytes; raise StorageFull if there is no room."""

    def commit(self) -> None: ...

    def discard(self) -> None:
        """Leave nothing behind; after a commit, do nothing."""


class Blobs(Protocol):
    """Byte strings by key; a key is `name/name`, written once."""

    def create(self, key: str) -> BlobWriter: ...

    def size(self, key: str) -> int:
        """Return the number of bytes; raises BlobMissing."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on, fewer than `length` at the end; raises BlobMissing."""

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, *, piece_bytes: int = PIECE_BYTES
    ) -> Iterator[bytes]:
        """Yield the bytes in pieces; raises BlobMissing."""

    def delete(self, key: str) -> None:
        """Delete the blob if it exists; raises Unavailable, also where this blob alone can't be deleted."""

    def check(self) -> None:
        """Raise Unavailable or StorageFull where no blob can be written and read."""

    def stale(self, age_s: float) -> Iterator[str]:
        """Yield the keys of blobs last written longer ago than `age_s`, unfinished blobs included.

        The age counts by the clock that stamps the storage's files.
        """


def read_whole(blobs: Blobs, key: str, offset: int, length: int) -> bytes:
    """Return exactly `length` bytes; raise BlobMissing if the blob ends before."""
    data = blobs.read(key, offset, length)
    if len(data) < length:
        raise BlobMissing(f"The blob {key} is cut short: it ends at byte {offset + len(data)}.")
    return data
