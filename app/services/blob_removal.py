"""Deletion of many blobs: a blob that can't be deleted does not hold up the others."""

from contextlib import suppress

import structlog

from app.domain.errors import StorageFull, Unavailable
from app.services.ports import Blobs

log = structlog.get_logger()


class BlobRemoval:
    """Deletes the blobs of a sweep, and counts the blobs that can't be deleted.

    Such a blob may lie in a folder without permission to write, or a folder may be in the blob's place.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._left: list[tuple[str, str]] = []

    def delete(self, key: str) -> bool:
        """Delete a blob and return whether that was possible; raises Unavailable if the whole storage is away."""
        try:
            self._blobs.delete(key)
        except Unavailable as fault:
            if not self._left:
                # A full storage lets blobs be deleted.
                with suppress(StorageFull):
                    self._blobs.check()
            self._left.append((key, str(fault)))
            return False
        return True

    def tell(self) -> None:
        """Log the blobs that could not be deleted, in a single entry."""
        if self._left:
            (key, fault), *others = self._left
            log.warning(
                "blob.not_deleted", blob=key, error=fault, others=len(others), next="upkeep tries again every hour"
            )
