"""The choice of waiting batches for a look of dispatch, where more batches wait than a look reads."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple


class Waiting(NamedTuple):
    """A batch with lines to hand out, as an index knows the batch before the row is read."""

    seq: int
    tenant_id: str
    # The upstreams of the lines to hand out.
    waiting_for: str
    expires_at: float
    # Whether lines are in flight: handed out and without a result.
    has_outstanding: bool


def choose(waiting: Iterable[Waiting], limit: int) -> set[int]:
    """Return the `seq` of each batch to look at.

    Half of the places are for batches without a line in flight: batches with only hanging lines must not take every
    place. Places that a half leaves free go to the other half.
    """
    found = list(waiting)
    resting = _in_turn([each for each in found if not each.has_outstanding])
    going = _in_turn([each for each in found if each.has_outstanding])
    places = max(-(-limit // 2), limit - len(going))
    chosen = resting[:places]
    return {each.seq for each in chosen + going[: limit - len(chosen)]}


def choose_newest(waiting: Sequence[Waiting], limit: int) -> set[int]:
    """Return the `seq` of the newest batches; tenants take turns."""
    return {each.seq for each in _in_turn([each._replace(expires_at=-each.seq) for each in waiting])[:limit]}


def _in_turn(waiting: Sequence[Waiting]) -> list[Waiting]:
    """Return the nearest deadline of each tenant first, then the next nearest deadlines, and so on.

    Within a tenant, groups of batches for the same upstreams take turns likewise: batches for a slow upstream must not
    hide the tenant's batches for other upstreams.
    """
    by_deadline = sorted(waiting, key=lambda each: (each.expires_at, each.seq))
    of_way = _places((each.tenant_id, each.waiting_for) for each in by_deadline)
    in_tenant = [each for _, each in sorted(zip(of_way, by_deadline, strict=True), key=lambda placed: placed[0])]
    of_tenant = dict(zip(in_tenant, _places(each.tenant_id for each in in_tenant), strict=True))
    return sorted(by_deadline, key=lambda each: of_tenant[each])


def _places(groups: Iterable[Hashable]) -> list[int]:
    """Return, for each item, the number of earlier items in the same group."""
    seen: Counter[Hashable] = Counter()
    places = []
    for group in groups:
        places.append(seen[group])
        seen[group] += 1
    return places
