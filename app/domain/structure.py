"""The structure of an input file: the facts about its lines, independent of the models and settings of today."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from app.domain.batch import LineError
from app.domain.errors import LineInvalid
from app.domain.limits import MAX_LINE_ERRORS, MAX_LINES, MAX_MODEL_CHARS, MIB
from app.domain.line import MAX_EMBEDDING_INPUTS, check_line, duplicate, model_not_found, too_long
from app.domain.source_lines import SourceLine

# number (u32), place of the model (u32), offset (u64), length (u32), estimated tokens (u32), prefix key (u64): the
# width of an entry of the plan, with equal parts at equal places except for the model.
_ENTRY = Struct("<IIQIIQ")
# Up to this length a custom_id is kept as it is to find duplicates; a digest of a longer custom_id takes less room.
_PLAIN_ID_CHARS = 40
# The names are held in memory and kept with the structure: room for 50,000 adapters with names of 80 bytes.
_MAX_MODEL_BYTES = 4 * MIB


class Structure(NamedTuple):
    """The findings of a pass over a file's bytes.

    `file_error` is a fault of the whole file, beside which nothing else counts. `line_errors` are the first errors of
    `bad_lines`. `entries` has an entry for each good line, with the place of its model in `models`.
    """

    total: int
    file_error: LineError | None
    line_errors: tuple[LineError, ...]
    bad_lines: int
    models: tuple[str | None, ...]
    entries: bytes


def unpack_structure(entries: bytes) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Yield number, place of the model, offset, length, estimated tokens and prefix key of each good line."""
    yield from _ENTRY.iter_unpack(entries)


def read_structure(lines: Iterable[SourceLine], endpoint: str) -> Structure:
    """Check the lines, up to the first line that shows the file to be over a limit."""
    check = _Check(endpoint)
    file_error = check.run(lines)
    return Structure(
        check.total, file_error, tuple(check.line_errors), check.bad_lines, tuple(check.models), bytes(check.entries)
    )


class _Check:
    def __init__(self, endpoint: str) -> None:
        self.total = self.bad_lines = 0
        self.line_errors: list[LineError] = []
        # In the order in which the file first names the models.
        self.models: dict[str | None, int] = {}
        # At most 1.6 MB.
        self.entries = bytearray()
        self._endpoint = endpoint
        self._seen: set[str | bytes] = set()
        self._inputs = self._model_bytes = 0

    def run(self, lines: Iterable[SourceLine]) -> LineError | None:
        """Take in the lines; return the fault of the file as a whole."""
        for number, offset, data in lines:
            self.total += 1
            if self.total > MAX_LINES:
                return LineError("too_many_tasks", f"The file has more than {MAX_LINES:,} requests.")
            try:
                self._take(number, offset, data)
            except LineInvalid as fault:
                self.bad_lines += 1
                if len(self.line_errors) < MAX_LINE_ERRORS:
                    self.line_errors.append(LineError(fault.code, fault.message, number, fault.param))
            if self._inputs > MAX_EMBEDDING_INPUTS:
                message = f"The file has more than {MAX_EMBEDDING_INPUTS:,} embedding inputs over all its requests."
                return LineError("invalid_request", message, param="body.input")
            if self._model_bytes > _MAX_MODEL_BYTES:
                message = f"The names of the file's models have more than {_MAX_MODEL_BYTES // MIB} MiB: split it."
                return LineError("invalid_request", message, param="body.model")
        if not self.total:
            return LineError("empty_file", "The input file is empty: give one request or more, one a line.")
        return None

    def _take(self, number: int, offset: int, data: bytes | None) -> None:
        if data is None:
            raise too_long()
        custom_id, model, inputs, prefix_key, tokens = check_line(data, self._endpoint)
        seen = custom_id if len(custom_id) <= _PLAIN_ID_CHARS else blake2b(custom_id.encode()).digest()
        if seen in self._seen:
            raise duplicate()
        self._seen.add(seen)
        self._inputs += inputs
        self.entries += _ENTRY.pack(number, self._place_of(model), offset, len(data), tokens, prefix_key)

    def _place_of(self, model: str | None) -> int:
        place = self.models.get(model)
        if place is None:
            # No name is longer or has a NUL, and databases can't store or search these names.
            if model is not None and (len(model) > MAX_MODEL_CHARS or "\0" in model):
                raise model_not_found(model)
            place = self.models[model] = len(self.models)
            self._model_bytes += len(model.encode()) if model else 0
        return place
