"""Lines of running batches that wait for an upstream that is not configured, for example a renamed upstream."""

from collections.abc import Iterable
from typing import NamedTuple


class Stranded(NamedTuple):
    """The lines that wait for a single missing upstream."""

    upstream: str
    lines: int
    batch_ids: list[str]


def find_stranded(sections: Iterable[tuple[str, str, int]]) -> list[Stranded]:
    """Return the lines of these sections, sorted by upstream.

    Args:
        sections: the upstream, the id of the batch and the lines that lack a result of each section.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for upstream, batch_id, lines in sections:
        found.setdefault(upstream, []).append((batch_id, lines))
    return [
        Stranded(upstream, sum(lines for _, lines in parts), [batch_id for batch_id, _ in parts])
        for upstream, parts in sorted(found.items())
    ]
