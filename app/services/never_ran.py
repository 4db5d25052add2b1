"""The lines that had not run when their batch ended, read from the input in long ranges."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from app.domain import result
from app.domain.batch import Batch
from app.domain.errors import BlobMissing
from app.domain.limits import MAX_LINES, MIB
from app.domain.line import read_custom_id, read_request
from app.domain.plan import ENTRY_BYTES, unpack_entries
from app.domain.result import Met
from app.domain.source_lines import read_lines
from app.services.ports import Blobs

# Bytes to read at once; a longer line is read by itself.
_WINDOW_BYTES = MIB


class NeverRan:
    """Makes the error lines for lines of a plan without a result, asked for in the order of the file."""

    def __init__(
        self,
        blobs: Blobs,
        batch: Batch,
        input_blob: str,
        plan: bytes,
        find_met: Callable[[str], Mapping[int, Met]] = lambda _: {},
    ) -> None:
        self._blobs = blobs
        self._batch = batch
        self._input_blob = input_blob
        self._plan = plan
        self._find_met = find_met
        # The failed calls of lines; read when the first line is asked for, since most batches need none.
        self._met: Mapping[int, Met] | None = None
        # The part of the input that was read last: in the order of the file, the next line is inside or behind.
        self._window = b""
        self._begins_at = 0

    def payload(self, position: int) -> bytes:
        """Return the error line for a position of the plan."""
        (entry,) = unpack_entries(self._plan[position * ENTRY_BYTES : (position + 1) * ENTRY_BYTES])
        custom_id = read_request(self._read(entry.offset, entry.length)).custom_id
        if self._met is None:
            self._met = self._find_met(self._batch.id)
        fault = result.never_ran(self._batch.status, self._met.get(position))
        return result.unanswered(self._batch.id, position, custom_id, *fault)

    def _read(self, offset: int, length: int) -> bytes:
        start = offset - self._begins_at
        if start < 0 or start + length > len(self._window):
            self._window = self._blobs.read(self._input_blob, offset, max(length, _WINDOW_BYTES))
            self._begins_at, start = offset, 0
        line = self._window[start : start + length]
        if len(line) < length:
            raise BlobMissing(f"The blob {self._input_blob} is cut short: a line at byte {offset} is missing.")
        return line


def lines_without_plan(batch: Batch, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an error line for each line with a readable custom_id in a batch that ended before its validation.

    Lines without a readable custom_id are left out, as are lines past the most that a batch may have.
    """
    fault = result.never_ran(batch.status)
    position = 0
    for line in read_lines(pieces):
        custom_id = None if line.data is None else read_custom_id(line.data)
        if custom_id is not None:
            yield result.unanswered(batch.id, position, custom_id, *fault)
            position += 1
            if position == MAX_LINES:
                return
