"""Lines in trouble: running lines whose task lost worker after worker, and failures of lines without a result."""

from collections.abc import Mapping

from sqlalchemy import Connection, Engine, Table, delete, select, text

from app.adapters.db.engine import reading, writing
from app.adapters.db.stored_text import fit_text
from app.adapters.db.tables import batches, trials, unanswered_tries
from app.domain.lifecycle import ACTIVE
from app.domain.result import Met

# The statement fits SQLite and PostgreSQL; SQLAlchemy has no common form for it.
_BEGIN = text(
    "INSERT INTO trials (batch_id, position, begun) VALUES (:batch_id, :position, 1) "
    "ON CONFLICT (batch_id, position) DO UPDATE SET begun = trials.begun + 1 RETURNING begun"
)
# A worker that takes over a line counts anew: the larger count stays.
_NOTE = text(
    "INSERT INTO unanswered_tries (batch_id, position, tries, met) VALUES (:batch_id, :position, :tries, :met) "
    "ON CONFLICT (batch_id, position) DO UPDATE SET met = excluded.met, "
    "tries = CASE WHEN excluded.tries > unanswered_tries.tries THEN excluded.tries ELSE unanswered_tries.tries END"
)


class SqlTrialStore:
    """`TrialStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, batch_id: str, position: int) -> int:
        with writing(self._engine) as connection:
            begun: int = connection.execute(_BEGIN, {"batch_id": batch_id, "position": position}).scalar_one()
            return begun - 1

    def end(self, batch_id: str, position: int) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(trials).where(trials.c.batch_id == batch_id, trials.c.position == position))

    def clear(self) -> int:
        return self._clear(trials) + self._clear(unanswered_tries)

    def note(self, met: Mapping[tuple[str, int], Met]) -> None:
        rows = [
            {"batch_id": batch_id, "position": position, "tries": each.tries, "met": fit_text(each.what)}
            # In a fixed order, to avoid a deadlock of two workers.
            for (batch_id, position), each in sorted(met.items())
        ]
        if rows:
            with writing(self._engine) as connection:
                connection.execute(_NOTE, rows)

    def met(self, batch_id: str) -> dict[int, Met]:
        noted = unanswered_tries.c
        query = select(noted.position, noted.tries, noted.met).where(noted.batch_id == batch_id)
        with reading(self._engine) as connection:
            return {position: Met(tries, what) for position, tries, what in connection.execute(query)}

    def _clear(self, table: Table) -> int:
        with reading(self._engine) as connection:
            over = _batches_over(connection, table)
        if not over:
            return 0
        with writing(self._engine) as connection:
            return connection.execute(delete(table).where(table.c.batch_id.in_(over))).rowcount


def _batches_over(connection: Connection, table: Table) -> set[str]:
    noted = set(connection.scalars(select(table.c.batch_id).distinct()))
    running = select(batches.c.id).where(batches.c.id.in_(noted), batches.c.status.in_(sorted(ACTIVE)))
    return noted - set(connection.scalars(running)) if noted else set()
