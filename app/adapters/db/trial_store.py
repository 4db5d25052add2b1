"""Lines whose task lost worker after worker, while they run."""

from sqlalchemy import Engine, delete, select, text

from app.adapters.db.engine import reading, writing
from app.adapters.db.tables import batches, trials
from app.domain.lifecycle import ACTIVE

# Both databases read it alike, and SQLAlchemy has no one word for it.
_BEGIN = text(
    "INSERT INTO trials (batch_id, position, begun) VALUES (:batch_id, :position, 1) "
    "ON CONFLICT (batch_id, position) DO UPDATE SET begun = trials.begun + 1 RETURNING begun"
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
        with reading(self._engine) as connection:
            noted = set(connection.scalars(select(trials.c.batch_id).distinct()))
            running = select(batches.c.id).where(batches.c.id.in_(noted), batches.c.status.in_(sorted(ACTIVE)))
            over = noted - set(connection.scalars(running)) if noted else set()
        if not over:
            return 0
        with writing(self._engine) as connection:
            return connection.execute(delete(trials).where(trials.c.batch_id.in_(over))).rowcount
