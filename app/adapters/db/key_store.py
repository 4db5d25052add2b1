"""Idempotency keys in the database."""

from sqlalchemy import Connection, Engine, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from app.adapters.db.engine import reading, writing
from app.adapters.db.tables import idempotency_keys
from app.domain.errors import KeyTaken
from app.services.ports import Claim, Known


class SqlIdempotencyStore:
    """`IdempotencyStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, tenant_id: str, key: str) -> Known | None:
        table = idempotency_keys.c
        query = select(table.fingerprint, table.object_id).where(table.tenant_id == tenant_id, table.key == key)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else Known(row.fingerprint, row.object_id)

    def clear(self, before: float) -> int:
        with writing(self._engine) as connection:
            return connection.execute(delete(idempotency_keys).where(idempotency_keys.c.claimed_at < before)).rowcount


def store_claim(connection: Connection, tenant_id: str, claim: Claim, object_id: str, now: float) -> None:
    """Insert a key in the transaction that stores the key's object; KeyTaken where another transaction stored the key.

    PostgreSQL waits here for a running transaction that inserted the key; SQLite lets no second writer begin.
    """
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    row = {"tenant_id": tenant_id, "object_id": object_id, "claimed_at": now, **claim._asdict()}
    statement = dialect.insert(idempotency_keys).values(row).on_conflict_do_nothing()
    if connection.scalar(statement.returning(idempotency_keys.c.key)) is None:
        raise KeyTaken(f"Another request of {tenant_id} has this Idempotency-Key.")
