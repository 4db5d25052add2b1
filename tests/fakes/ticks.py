"""Counts of ticks, without a database."""

from collections import Counter
from collections.abc import Mapping

from app.domain.errors import Unavailable


class MemoryTickStore:
    """`TickStore` in memory; `is_away` makes it a database that does not answer."""

    def __init__(self) -> None:
        self._done: Counter[str] = Counter()
        self._clocks: dict[str, float] = {}
        self.is_away = False
        self.notes = 0

    def note(self, done: Mapping[str, int], clock: float) -> None:
        self._answer()
        self.notes += 1
        self._done.update(done)
        self._clocks.update(dict.fromkeys(done, clock))

    def done(self) -> dict[str, int]:
        self._answer()
        return dict(self._done)

    def clock(self, kind: str) -> float | None:
        self._answer()
        return self._clocks.get(kind)

    def _answer(self) -> None:
        if self.is_away:
            raise Unavailable("The database is away.")
