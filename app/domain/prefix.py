"""Prefix keys: lines with a common beginning go out together, for a model server to compute the beginning once.

A key is a 64-bit number of four 16-bit hashes: of the first 256 B, 1 KiB, 4 KiB and 16 KiB of the text that the model
sees first. Keys have equal sizes for short and long lines, and lines with equal first 256 B share the upper bits.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from zlib import crc32

# A server with a separate cache for each slot computes a prefix in every slot that gets a line with the prefix. Small
# servers have about this many slots: with a group for each slot, a prefix is computed once. Large servers share a cache
# among the calls, for a few prefixes as well as for a single prefix.
MAX_GROUPS_AT_ONCE = 4

# A system prompt ends somewhere between two levels; the order loses the shared bytes past the lower level.
_LEVEL_BYTES = (256, 1024, 4096, 16_384)
_LEVEL_BITS = 16
_LEVEL_MASK = (1 << _LEVEL_BITS) - 1
_SHIFTS = tuple(_LEVEL_BITS * level for level in reversed(range(len(_LEVEL_BYTES))))
# The key of a line that ends within the first level: every level has an equal hash.
_SAME_AT_ALL = sum(1 << shift for shift in _SHIFTS)


def prefix_key(parts: Sequence[bytes]) -> int:
    """Return the key of a model's input, given as bytes in the model's order of reading."""
    head = memoryview(parts[0]) if len(parts) == 1 else memoryview(_joined(parts))
    length = len(head)
    if length <= _LEVEL_BYTES[0]:
        return (crc32(head) & _LEVEL_MASK) * _SAME_AT_ALL
    key = hashed = start = 0
    for end in _LEVEL_BYTES:
        if start < length:
            hashed = crc32(head[start:end], hashed)
        key = key << _LEVEL_BITS | hashed & _LEVEL_MASK
        start = end
    return key


def model_hash(model: str | None) -> int:
    """Return 16 bits for a model's name; two models with equal bits count as one model, at little cost."""
    return crc32((model or "").encode()) & _LEVEL_MASK


def _joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(memoryview(part)[: _LEVEL_BYTES[-1]] for part in parts)


def group_by_model(keys: Sequence[int], models: Sequence[int], at_once: int) -> list[int] | None:
    """Return the indices of `keys` in an order that keeps each model's lines with a common beginning together.

    A model's lines go in the order of `group_alike`, at the places of the model's lines in the file: so a model has as
    much to do at any time as in the order of the file. None if the new order gains nothing.
    """
    if len(set(models)) == 1:
        return group_alike(keys, at_once)
    places_of: dict[int, list[int]] = {}
    for place, model in enumerate(models):
        places_of.setdefault(model, []).append(place)
    order = list(range(len(keys)))
    for places in places_of.values():
        for place, rank in zip(places, group_alike([keys[place] for place in places], at_once) or (), strict=False):
            order[place] = places[rank]
    return None if order == list(range(len(keys))) else order


def group_alike(keys: Sequence[int], at_once: int) -> list[int] | None:
    """Return the 0-based indices of `keys` in an order that keeps lines with a common beginning together.

    Groups go in the order of their first lines, `at_once` groups side by side, a line of each in turn; within a group,
    lines keep their order. None if the new order gains nothing: the lines are already in order, or all begin alike, or
    mostly begin differently.
    """
    # Lines with equal first 256 B are a group, lines with equal first 1 KiB a subgroup, and so on.
    places = range(len(keys))
    ranks = [0] * len(keys)
    mask = 0
    for shift in _SHIFTS:
        kinds = len({key >> shift & _LEVEL_MASK for key in keys})
        if kinds > len(keys) // 2:
            # More bytes give no fewer kinds, except for hashes that are equal by chance.
            break
        if kinds == 1:
            continue
        mask |= _LEVEL_MASK << shift
        first_of: dict[int, int] = {}
        ranks = [
            rank * len(keys) + first_of.setdefault((key & mask) >> shift, place)
            for place, rank, key in zip(places, ranks, keys, strict=True)
        ]
    if not mask:
        return None
    ordered = sorted(places, key=ranks.__getitem__)
    order = _side_by_side((group for _, group in groupby(ordered, key=ranks.__getitem__)), at_once)
    return None if order == list(places) else order


def _side_by_side(groups: Iterator[Iterator[int]], at_once: int) -> list[int]:
    # Several groups are read in turn, but `groupby` alone reads only one at a time.
    waiting = map(iter, map(list, groups))
    lanes = deque(islice(waiting, at_once))
    order: list[int] = []
    while lanes:
        lane = lanes.popleft()
        place = next(lane, None)
        if place is None:
            lanes.extendleft(islice(waiting, 1))
        else:
            order.append(place)
            lanes.append(lane)
    return order
