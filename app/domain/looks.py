"""Which of many batches that wait are looked at, where there are more of them than one look takes."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple


class Waiting(NamedTuple):
    """What is known of a batch with lines that were never handed out, before its row is read."""

    seq: int
    tenant_id: str
    # The upstreams for which it has such lines.
    waiting_for: str
    expires_at: float
    # Whether lines were handed out that have no result yet.
    has_outstanding: bool


def choose(waiting: Iterable[Waiting], limit: int) -> set[int]:
    """Return which batches to look at, by `seq`.

    Half of the places are for batches with nothing outstanding: others, whose lines may all hang, must not take every
    place. What one half does not need the other has.
    """
    found = list(waiting)
    resting = _in_turn([each for each in found if not each.has_outstanding])
    going = _in_turn([each for each in found if each.has_outstanding])
    places = max(-(-limit // 2), limit - len(going))
    chosen = resting[:places]
    return {each.seq for each in chosen + going[: limit - len(chosen)]}


def choose_newest(waiting: Sequence[Waiting], limit: int) -> set[int]:
    """Return the newest batches, by `seq`: as for the other places the tenants take turns."""
    return {each.seq for each in _in_turn([each._replace(expires_at=-each.seq) for each in waiting])[:limit]}


def _in_turn(waiting: Sequence[Waiting]) -> list[Waiting]:
    """Return the nearest deadline of each tenant first, then the next nearest of each, and so on.

    So it is within a tenant with those that wait for the same upstreams: if one of these is slow or away, the batches
    that wait for it must not keep the tenant's others from being looked at.
    """
    by_deadline = sorted(waiting, key=lambda each: (each.expires_at, each.seq))
    of_way = _places((each.tenant_id, each.waiting_for) for each in by_deadline)
    in_tenant = [each for _, each in sorted(zip(of_way, by_deadline, strict=True), key=lambda placed: placed[0])]
    of_tenant = dict(zip(in_tenant, _places(each.tenant_id for each in in_tenant), strict=True))
    return sorted(by_deadline, key=lambda each: of_tenant[each])


def _places(groups: Iterable[Hashable]) -> list[int]:
    """Return of each item how many of its group there are before it."""
    seen: Counter[Hashable] = Counter()
    places = []
    for group in groups:
        places.append(seen[group])
        seen[group] += 1
    return places
