"""The stores of API keys and of Idempotency-Keys. A method is one transaction, committed when it returns."""

from collections.abc import Mapping
from typing import Protocol

from app.domain.api_key import ApiKey
from app.services.ports.stores import Known


class KeyStore(Protocol):
    """API keys, found by a hash of their value."""

    def find(self, key_hash: str) -> ApiKey | None:
        """Return the key with this hash, even a revoked key."""

    def add(self, key: ApiKey, key_hash: str) -> None:
        """Store a key; a stored key with the same hash stays as it is."""

    def all(self) -> list[ApiKey]:
        """Return every key, in the order of creation."""

    def revoke(self, key_id: str, now: float) -> bool:
        """Mark a key as revoked; return False if no key in use has this id."""

    def note_uses(self, uses: Mapping[str, float]) -> None:
        """Store when keys, by their ids, were used last; an instant older than the stored instant is dropped."""


class IdempotencyStore(Protocol):
    """The Idempotency-Keys of stored objects; files and batches share them."""

    def get(self, tenant_id: str, key: str) -> Known | None:
        """Return the request and the object of the key; None if no object was stored with the key."""

    def clear(self, before: float) -> int:
        """Forget keys of objects stored before the instant `before`."""
