"""Byte strings by key, as the use cases see them.

Where the storage can't be used, or is not that of this deployment, everything here raises Unavailable: BlobMissing
means that the right storage has no such blob.
"""

from collections.abc import Iterator
from typing import Protocol

from app.domain.errors import BlobMissing
from app.domain.limits import MIB

# A piece of a blob, for whoever reads it as fast as it comes.
PIECE_BYTES = MIB


class BlobWriter(Protocol):
    """A blob being written: it exists under its key only once `commit` returned."""

    def write(self, data: bytes) -> int:
        """Append; StorageFull where there is no room."""

    def commit(self) -> None: ...

    def discard(self) -> None:
        """Leave nothing behind; after a commit it does nothing."""


class Blobs(Protocol):
    """Byte strings by key; a key is `name/name`, written once."""

    def create(self, key: str) -> BlobWriter: ...

    def size(self, key: str) -> int:
        """Return the number of bytes; BlobMissing."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on, fewer than `length` at the end; BlobMissing."""

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, *, piece_bytes: int = PIECE_BYTES
    ) -> Iterator[bytes]:
        """Yield the bytes in pieces; BlobMissing."""

    def delete(self, key: str) -> None:
        """Delete the blob if it is there."""

    def stale(self, age_s: float) -> Iterator[str]:
        """Yield the keys of blobs last written longer ago than this, unfinished ones included.

        The age is by the clock by which the storage stamps its files.
        """


def read_whole(blobs: Blobs, key: str, offset: int, length: int) -> bytes:
    """Return exactly so many bytes; BlobMissing where the blob ends before."""
    data = blobs.read(key, offset, length)
    if len(data) < length:
        raise BlobMissing(f"The blob {key} is cut short: it ends at byte {offset + len(data)}.")
    return data
