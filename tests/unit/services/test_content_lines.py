"""The lines of a file's content."""

from app.domain.file import File
from app.services.content_lines import ContentLines
from app.services.files import Content
from tests.fakes.outside import MemoryBlobs


def content_of(blobs: MemoryBlobs, name: str, data: bytes) -> Content:
    blobs.put(f"files/{name}", data)
    return Content(File(name, "tenant", "batch", "in.jsonl", len(data), f"files/{name}", 0.0), len(data), blobs)


def test_lines_are_counted_once_for_each_file() -> None:
    lines, blobs = ContentLines(), MemoryBlobs()
    three, two = content_of(blobs, "file-3", b"a\nb\nc"), content_of(blobs, "file-2", b"a\nb\n")
    assert (lines.total(three), lines.total(two)) == (3, 2)

    blobs.delete("files/file-3")

    assert (lines.total(three), lines.total(two)) == (3, 2)
