"""API keys and idempotency keys in memory."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from app.domain.api_key import ApiKey
from app.services.ports import Known
from tests.fakes.database import MemoryDatabase


class MemoryKeyStore:
    """API keys in a dictionary, by their hash."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}

    def find(self, key_hash: str) -> ApiKey | None:
        return self._keys.get(key_hash)

    def add(self, key: ApiKey, key_hash: str) -> None:
        self._keys.setdefault(key_hash, key)

    def all(self) -> list[ApiKey]:
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str, now: float) -> bool:
        return self._change(key_id, lambda key: key.revoked_at is None, revoked_at=now)

    def note_uses(self, uses: Mapping[str, float]) -> None:
        for key_id, used_at in uses.items():
            self._change(key_id, lambda key, at=used_at: (key.last_used_at or 0) < at, last_used_at=used_at)

    def _change(self, key_id: str, is_due: Callable[[ApiKey], bool], **values: float) -> bool:
        for key_hash, key in self._keys.items():
            if key.id == key_id and is_due(key):
                self._keys[key_hash] = replace(key, **values)
                return True
        return False


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
