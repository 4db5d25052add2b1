"""The choice of waiting batches for a look of dispatch, where more batches wait than a look reads."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple


class Waiting(NamedTuple):
    """A section with lines to hand out, as an index knows the section before the row is read."""

    # Of the batch, as are the following fields but the upstream.
    seq: int
    tenant_id: str
    upstream: str
    expires_at: float
    # Whether lines are in flight: handed out and without a result.
    has_outstanding: bool


def choose(waiting: Iterable[Waiting], limit: int) -> set[int]:
    """Return the `seq` of each batch to look at.

    Half of the places are for sections without a line in flight: sections with only hanging lines must not take every
    place. Places that a half leaves free go to the other half.
    """
    found = list(waiting)
    resting = _in_turn([each for each in found if not each.has_outstanding])
    going = _in_turn([each for each in found if each.has_outstanding])
    half = -(-limit // 2)
    return set(islice(dict.fromkeys((*resting[:half], *going, *resting)), limit))


def choose_newest(waiting: Sequence[Waiting], limit: int) -> set[int]:
    """Return the `seq` of the newest batches; tenants take turns."""
    return set(_in_turn([each._replace(expires_at=-each.seq) for each in waiting])[:limit])


def _in_turn(waiting: Sequence[Waiting]) -> list[int]:
    """Return the batch with the nearest deadline of each tenant first, then of the next nearest deadlines, and so on.

    Within a tenant, sections for different upstreams take turns likewise: sections for a slow upstream must not hide
    the tenant's sections for other upstreams.
    """
    by_deadline = sorted(waiting, key=lambda each: (each.expires_at, each.seq))
    of_way = _places((each.tenant_id, each.upstream) for each in by_deadline)
    in_tenant = [each for _, each in sorted(zip(of_way, by_deadline, strict=True), key=lambda placed: placed[0])]
    of_tenant = dict(zip(in_tenant, _places(each.tenant_id for each in in_tenant), strict=True))
    # A batch is in the place of its first section.
    return list(dict.fromkeys(each.seq for each in sorted(by_deadline, key=lambda each: of_tenant[each])))


def _places(groups: Iterable[Hashable]) -> list[int]:
    """Return, for each item, the number of earlier items in the same group."""
    seen: Counter[Hashable] = Counter()
    places = []
    for group in groups:
        places.append(seen[group])
        seen[group] += 1
    return places
