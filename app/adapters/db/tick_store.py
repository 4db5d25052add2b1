"""The counts of completed ticks: growing counts show that ticks run."""

from collections.abc import Mapping

from sqlalchemy import Engine, select, text

from app.adapters.db.engine import reading, writing
from app.adapters.db.tables import ticks

# The statement fits SQLite and PostgreSQL; SQLAlchemy has no common form for it.
_NOTE = text(
    "INSERT INTO ticks (kind, done, clock) VALUES (:kind, :done, :clock) "
    "ON CONFLICT (kind) DO UPDATE SET done = ticks.done + excluded.done, clock = excluded.clock"
)


class SqlTickStore:
    """`TickStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, done: Mapping[str, int], clock: float) -> None:
        # In a fixed order, to avoid a deadlock of two processes.
        rows = [{"kind": kind, "done": count, "clock": clock} for kind, count in sorted(done.items())]
        if rows:
            with writing(self._engine, is_synced=False) as connection:
                connection.execute(_NOTE, rows)

    def done(self) -> dict[str, int]:
        with reading(self._engine) as connection:
            return {row.kind: row.done for row in connection.execute(select(ticks.c.kind, ticks.c.done))}

    def clock(self, kind: str) -> float | None:
        with reading(self._engine) as connection:
            found: float | None = connection.scalar(select(ticks.c.clock).where(ticks.c.kind == kind))
        return found
