"""API keys and idempotency keys in the database."""

from sqlalchemy import Engine, and_, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from app.adapters.db.engine import reading, writing
from app.adapters.db.tables import api_keys, idempotency_keys


class SqlKeyStore:
    """`KeyStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        self._insert = dialect.insert(api_keys).on_conflict_do_nothing()

    def tenant_of(self, key_hash: str) -> str | None:
        with reading(self._engine) as connection:
            return connection.scalar(select(api_keys.c.tenant_id).where(api_keys.c.key_hash == key_hash))

    def add(self, key_hash: str, tenant_id: str, now: float) -> None:
        with writing(self._engine) as connection:
            connection.execute(self._insert.values(key_hash=key_hash, tenant_id=tenant_id, created_at=now))

    def is_empty(self) -> bool:
        with reading(self._engine) as connection:
            return not connection.scalar(select(func.count()).select_from(api_keys))


class SqlIdempotencyStore:
    """`IdempotencyStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        self._insert = dialect.insert(idempotency_keys).on_conflict_do_nothing()

    def claim(self, tenant_id: str, key: str, fingerprint: str, object_id: str, now: float) -> tuple[str, str]:
        mine = {
            "tenant_id": tenant_id,
            "key": key,
            "fingerprint": fingerprint,
            "object_id": object_id,
            "claimed_at": now,
        }
        table = idempotency_keys.c
        query = select(table.fingerprint, table.object_id).where(table.tenant_id == tenant_id, table.key == key)
        with writing(self._engine) as connection:
            connection.execute(self._insert.values(mine))
            row = connection.execute(query).one()
            return row.fingerprint, row.object_id

    def release(self, tenant_id: str, key: str) -> None:
        table = idempotency_keys.c
        with writing(self._engine) as connection:
            connection.execute(delete(idempotency_keys).where(table.tenant_id == tenant_id, table.key == key))

    def release_stale(self, tenant_id: str, key: str, before: float) -> bool:
        table = idempotency_keys.c
        stale = and_(table.tenant_id == tenant_id, table.key == key, table.claimed_at < before)
        with writing(self._engine) as connection:
            return connection.execute(delete(idempotency_keys).where(stale)).rowcount == 1

    def clear(self, before: float) -> int:
        with writing(self._engine) as connection:
            return connection.execute(delete(idempotency_keys).where(idempotency_keys.c.claimed_at < before)).rowcount
