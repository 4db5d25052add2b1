"""API keys and idempotency keys in memory."""

from threading import RLock


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
    """First answers in a dictionary."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], tuple[str, str, float]] = {}
        self._lock = RLock()

    def claim(self, tenant_id: str, key: str, fingerprint: str, object_id: str, now: float) -> tuple[str, str]:
        with self._lock:
            stored = self._claims.setdefault((tenant_id, key), (fingerprint, object_id, now))
            return stored[0], stored[1]

    def release(self, tenant_id: str, key: str) -> None:
        with self._lock:
            self._claims.pop((tenant_id, key), None)

    def release_stale(self, tenant_id: str, key: str, before: float) -> bool:
        with self._lock:
            is_stale = (tenant_id, key) in self._claims and self._claims[tenant_id, key][2] < before
            return is_stale and self._claims.pop((tenant_id, key)) is not None

    def clear(self, before: float) -> int:
        with self._lock:
            old = [name for name, (_, _, claimed_at) in self._claims.items() if claimed_at < before]
            for name in old:
                del self._claims[name]
            return len(old)
