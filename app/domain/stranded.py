"""Lines of running batches that wait for an upstream that is not configured, for example a renamed upstream."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from app.domain.batch import Batch
from app.domain.lifecycle import Status


class Stranded(NamedTuple):
    """The lines that wait for a single missing upstream."""

    upstream: str
    lines: int
    batch_ids: list[str]


def find_stranded(batches: Iterable[Batch], upstreams: Collection[str]) -> list[Stranded]:
    """Return the lines of these batches that wait for upstreams outside `upstreams`, sorted by upstream."""
    found: dict[str, list[tuple[str, int]]] = {}
    for batch in batches:
        if batch.status is not Status.IN_PROGRESS:
            # A batch that ends needs no upstream any more.
            continue
        for section in batch.sections:
            if section.upstream not in upstreams and section.unrecorded:
                found.setdefault(section.upstream, []).append((batch.id, section.unrecorded))
    return [
        Stranded(upstream, sum(lines for _, lines in parts), [batch_id for batch_id, _ in parts])
        for upstream, parts in sorted(found.items())
    ]
