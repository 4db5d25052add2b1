"""The plan of a batch: a fixed-width entry for each line, so that a range of lines is a single read.

A line's *position* is its place in the plan, 0-based and without gaps; its *number* is its place in the caller's file,
1-based and with blank lines counted. The plan is in the order of sending: the file's order, unless lines with a common
beginning were put together.
"""

import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from app.domain.limits import AUTO_TASKS_PER_BATCH
from app.domain.prefix import group_by_model

# number (u32), upstream (u16), model hash (u16), offset (u64), length (u32), estimated tokens (u32), prefix hash (u64)
_ENTRY = struct.Struct("<IHHQIIQ")
ENTRY_BYTES = _ENTRY.size
# The parts of an entry that are read from whole plans.
_NUMBER = struct.Struct("<I28x")
_UPSTREAM = struct.Struct("<4xH26x")
_HASHES = struct.Struct("<6xH16xQ")


_DIGEST_BYTES = 16


class PlanEntry(NamedTuple):
    """The place of one line: `offset` and `length` are bytes in the input blob, line ending excluded."""

    number: int
    offset: int
    length: int
    upstream: int = 0
    prefix_hash: int = 0
    model_hash: int = 0
    # An estimate of the tokens that the line will use; 0 in a plan of an older version.
    tokens: int = 0


def pack_entry(entry: PlanEntry) -> bytes:
    """Return the entry's `ENTRY_BYTES` bytes."""
    number, offset, length, upstream, prefix_hash, model_hash, tokens = entry
    return _ENTRY.pack(number, upstream, model_hash, offset, length, tokens, prefix_hash)


def unpack_entries(data: bytes) -> Iterator[PlanEntry]:
    """Yield the entries in `data`, whose length is a multiple of `ENTRY_BYTES`."""
    for number, upstream, model_hash, offset, length, tokens, prefix_hash in _ENTRY.iter_unpack(data):
        yield PlanEntry(number, offset, length, upstream, prefix_hash, model_hash, tokens)


def put_upstreams_apart(plan: bytearray) -> tuple[bytes | bytearray, list[int]]:
    """Return a plan with the lines of each upstream together, in their order, and the upstreams' numbers of lines."""
    upstreams = [upstream for (upstream,) in _UPSTREAM.iter_unpack(plan)]
    counts = [upstreams.count(upstream) for upstream in range(max(upstreams, default=0) + 1)]
    if len(counts) == 1:
        return plan, counts
    order = sorted(range(len(upstreams)), key=upstreams.__getitem__)
    return _in_order(plan, order), counts


def put_alike_together(plan: bytes | bytearray, groups_at_once: int) -> bytes:
    """Return a plan that groups a model's lines by their beginning, with `groups_at_once` groups side by side.

    If the new order gains nothing, the plan stays as it is.
    """
    models, keys = zip(*_HASHES.iter_unpack(plan), strict=True) if plan else ((), ())
    order = group_by_model(keys, models, groups_at_once)
    if order is None:
        return bytes(plan)
    return _in_order(plan, order)


def in_dispatch_order(plan: bytearray, groups_at_once: int) -> tuple[bytes, list[int]]:
    """Return a plan in the order of sending, and the number of lines of each upstream.

    With 0 for `groups_at_once`, lines for an upstream keep the order of the file.
    """
    ordered, counts = put_upstreams_apart(plan)
    pieces, start = [], 0
    for count in counts:
        end = start + count * ENTRY_BYTES
        piece = ordered[start:end]
        pieces.append(put_alike_together(piece, groups_at_once) if groups_at_once else bytes(piece))
        start = end
    return b"".join(pieces), counts


def order_digest(plan: bytes) -> str:
    """Return a digest of the order of a plan's lines: by this order a result's position means a line of the file."""
    numbers = [number for (number,) in _NUMBER.iter_unpack(plan)]
    return blake2b(struct.pack(f"<{len(numbers)}I", *numbers), digest_size=_DIGEST_BYTES).hexdigest()


def _in_order(plan: bytes | bytearray, order: Sequence[int]) -> bytes:
    return b"".join(plan[at * ENTRY_BYTES : (at + 1) * ENTRY_BYTES] for at in order)


def input_order(plan: bytes) -> list[int] | None:
    """Return the positions in the order of the caller's file; None if the plan is already in the file's order."""
    numbers = [number for (number,) in _NUMBER.iter_unpack(plan)]
    if numbers == sorted(numbers):
        return None
    return sorted(range(len(numbers)), key=numbers.__getitem__)


def lines_per_task(lines: int, pinned: int | None) -> int:
    """Return the number of lines in a task: the operator's number, else ceil(lines / 1,000)."""
    if pinned is not None:
        return pinned
    return max(1, -(-lines // AUTO_TASKS_PER_BATCH))
