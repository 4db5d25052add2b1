"""What lines begin with: lines that begin alike go out together, so that a model server computes it once.

A key is a number of 64 bits, four hashes of 16 bits: of the first 256 B, 1 KiB, 4 KiB and 16 KiB of what the model
sees first. It takes the same room however long the line is, and lines with the same first 256 B share its upper bits.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from zlib import crc32

# A server that keeps what it read apart in each slot computes a prefix once for every slot that gets a line with it.
# Small servers have about so many slots, and with a group for each it is computed once. Large ones share what they keep
# among all calls, for a few prefixes as well as for one.
MAX_GROUPS_AT_ONCE = 4

# A system prompt is cut somewhere between two of these: what is shared past the lower one is lost on the order.
_LEVEL_BYTES = (256, 1024, 4096, 16_384)
_LEVEL_BITS = 16
_LEVEL_MASK = (1 << _LEVEL_BITS) - 1
_SHIFTS = tuple(_LEVEL_BITS * level for level in reversed(range(len(_LEVEL_BYTES))))
# The key of a line that ends before the second level: all levels are the same.
_SAME_AT_ALL = sum(1 << shift for shift in _SHIFTS)


def prefix_key(parts: Sequence[bytes]) -> int:
    """Return the key of what a model sees first, given as bytes in that order."""
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
    """Return 16 bits for a model's name; two that have the same ones count as one model, which costs little."""
    return crc32((model or "").encode()) & _LEVEL_MASK


def _joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(memoryview(part)[: _LEVEL_BYTES[-1]] for part in parts)


def group_by_model(keys: Sequence[int], models: Sequence[int], at_once: int) -> list[int] | None:
    """Return the places of `keys` in an order that keeps each model's lines together that begin alike.

    A model gets its lines in the order of `group_alike`, at the places that are its lines' in the file: so each model
    has as much to do at any time as in the order of the file. None where nothing is gained.
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
    """Return the places of `keys`, 0-based, in an order that keeps those together that begin alike.

    Groups go in the order of their first lines, `at_once` of them side by side and a line of each in turn; within a
    group lines keep their order. None where nothing is gained: the lines are in such an order, or all begin alike, or
    most begin in their own way.
    """
    # Lines with the same 256 B in common are a group, of these those with the same 1 KiB one within it, and so on.
    places = range(len(keys))
    ranks = [0] * len(keys)
    mask = 0
    for shift in _SHIFTS:
        kinds = len({key >> shift & _LEVEL_MASK for key in keys})
        if kinds > len(keys) // 2:
            # Of more bytes there are no fewer kinds, but for hashes that are equal by chance.
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
    # A group is read while others are, which `groupby` alone does not allow.
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
