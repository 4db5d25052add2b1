"""API keys and idempotency keys in memory."""

from app.services.ports import Known
from tests.fakes.database import MemoryDatabase


class MemoryKeyStore:
    """API keys in a dictionary."""

    def __init__(self) -> None:
        self._tenants: dict[str, str] = {}

    def tenant_of(self, key_hash: str) -> str | None:
        return self._tenants.get(key_hash)

    def add(self, key_hash: str, tenant_id: str, now: float) -> None:
        self._tenants.setdefault(key_hash, tenant_id)

    def is_empty(self) -> bool:
        return not self._tenants


class MemoryIdempotencyStore:
    """The keys of a memory database."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    def get(self, tenant_id: str, key: str) -> Known | None:
        with self._db.lock:
            row = self._db.keys.get((tenant_id, key))
            return None if row is None else row[0]

    def clear(self, before: float) -> int:
        with self._db.lock:
            old = [name for name, (_, claimed_at) in self._db.keys.items() if claimed_at < before]
            for name in old:
                del self._db.keys[name]
            return len(old)
