"""Lines of running batches that wait for an upstream that is not configured, such as one that was renamed."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from app.domain.batch import Batch
from app.domain.lifecycle import Status


class Stranded(NamedTuple):
    """What waits for one such upstream."""

    upstream: str
    lines: int
    batch_ids: list[str]


def find_stranded(batches: Iterable[Batch], upstreams: Collection[str]) -> list[Stranded]:
    """Return what of these batches waits for other upstreams than these, in the order of their names."""
    found: dict[str, list[tuple[str, int]]] = {}
    for batch in batches:
        if batch.status is not Status.IN_PROGRESS:
            # One that ends needs no upstream any more.
            continue
        for section in batch.sections:
            if section.upstream not in upstreams and section.unrecorded:
                found.setdefault(section.upstream, []).append((batch.id, section.unrecorded))
    return [
        Stranded(upstream, sum(lines for _, lines in parts), [batch_id for batch_id, _ in parts])
        for upstream, parts in sorted(found.items())
    ]
