"""Folders that are marked as a storage."""

import os
from pathlib import Path

from app.adapters.blobs.local import LocalBlobs
from app.adapters.blobs.marker import write_marker
from app.services.ports import BlobWriter

OURS = "0123456789abcdef0123"
ANOTHERS = "fedcba98765432100000"


def mark(folder: Path, storage_id: str = OURS) -> Path:
    """Make the folder, and mark it."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY)
    write_marker(fd, storage_id)
    os.close(fd)
    return folder


def open_blobs(folder: Path) -> LocalBlobs:
    """Return the blobs of a folder that has to be ours."""
    return LocalBlobs(folder, lambda: OURS)


def put(blobs: LocalBlobs, key: str, data: bytes) -> None:
    finish(blobs.create(key), data)


def finish(writer: BlobWriter, data: bytes) -> None:
    writer.write(data)
    writer.commit()
