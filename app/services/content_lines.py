"""The lines of a file's content: their number, and where a line begins."""

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

from app.services.files import Content

# An entry is a number; files are never written twice.
_MAX_KEPT = 4_096


class ContentLines:
    """Counts lines by reading the file once, and keeps the number for the next time."""

    def __init__(self) -> None:
        self._totals: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def total(self, content: Content) -> int:
        """Return the number of lines; the last line need not end."""
        with self._lock:
            known = self._totals.get(content.file.id)
        if known is not None:
            return known
        total = _count(content.stream())
        with self._lock:
            self._totals[content.file.id] = total
            if len(self._totals) > _MAX_KEPT:
                self._totals.popitem(last=False)
        return total

    def start_of(self, content: Content, skipped: int) -> int:
        """Return the offset behind the first `skipped` lines; the end of the content if it has no more lines."""
        if skipped == 0:
            return 0
        offset = 0
        for piece in content.stream():
            found = piece.count(b"\n")
            if found < skipped:
                skipped -= found
                offset += len(piece)
                continue
            at = 0
            for _ in range(skipped):
                at = piece.index(b"\n", at) + 1
            return offset + at
        return content.size


def _count(pieces: Iterator[bytes]) -> int:
    total, last = 0, b"\n"
    for piece in pieces:
        total += piece.count(b"\n")
        last = piece[-1:]
    return total if last == b"\n" else total + 1
