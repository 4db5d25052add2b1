"""API keys in the database."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields

from sqlalchemy import Engine, bindparam, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.adapters.db.engine import reading, writing
from app.adapters.db.tables import api_keys
from app.domain.api_key import ApiKey

_COLUMNS = [api_keys.c[field.name] for field in fields(ApiKey)]
# Built once: each request looks for its key.
_FIND = select(*_COLUMNS).where(api_keys.c.key_hash == bindparam("given_hash"))


class SqlKeyStore:
    """`KeyStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        self._insert = dialect.insert(api_keys).on_conflict_do_nothing()

    def find(self, key_hash: str) -> ApiKey | None:
        with reading(self._engine) as connection:
            row = connection.execute(_FIND, {"given_hash": key_hash}).one_or_none()
        return None if row is None else ApiKey(**row._mapping)

    def add(self, key: ApiKey, key_hash: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(self._insert.values(**asdict(key), key_hash=key_hash, is_keyed=True))

    def all(self) -> list[ApiKey]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(*_COLUMNS).order_by(api_keys.c.created_at, api_keys.c.id))
            return [ApiKey(**row._mapping) for row in rows]

    def revoke(self, key_id: str, now: float) -> bool:
        in_use = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with writing(self._engine) as connection:
            return connection.execute(in_use.values(revoked_at=now)).rowcount == 1

    def note_uses(self, uses: Mapping[str, float]) -> None:
        with writing(self._engine) as connection:
            # In a fixed order, to avoid a deadlock of two processes.
            for key_id, used_at in sorted(uses.items()):
                is_older = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < used_at)
                connection.execute(
                    update(api_keys).where(api_keys.c.id == key_id, is_older).values(last_used_at=used_at)
                )

    def key_hashes(self, keyed: Callable[[str], str]) -> int:
        """Replace plain hashes by keyed hashes; return the number of plain hashes."""
        with writing(self._engine) as connection:
            plain = connection.execute(select(api_keys.c.id, api_keys.c.key_hash).where(~api_keys.c.is_keyed)).all()
            for key_id, key_hash in plain:
                connection.execute(
                    update(api_keys)
                    .where(api_keys.c.id == key_id, ~api_keys.c.is_keyed)
                    .values(key_hash=keyed(key_hash), is_keyed=True)
                )
            return len(plain)
