"""An API key after its value was shown once: its name, its end and its keyed hash."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

PREFIX = "sk-wy-"
# The ends of a shorter key would tell too much to a person who guesses the rest.
_SHOWN_FROM_CHARS = 24
_SHOWN_END_CHARS = 4
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key of a tenant. Instants are seconds since 1970, UTC."""

    id: str
    tenant_id: str
    name: str
    # Enough of the key for a person to tell keys apart.
    redacted_value: str
    created_at: float
    # Accurate to the minute.
    last_used_at: float | None = None
    revoked_at: float | None = None


def new_api_key() -> str:
    """Return a new API key: `sk-wy-` and 43 characters of 256 random bits."""
    return f"{PREFIX}{secrets.token_urlsafe(32)}"


def new_key_id() -> str:
    """Return a new id of an API key: `key_` and 24 hex digits."""
    return f"key_{secrets.token_hex(12)}"


def plain_hash(key: str) -> str:
    """Return the SHA-256 of a key in hex: the database had this hash before keyed hashes."""
    return hashlib.sha256(key.encode()).hexdigest()


def keyed_hash(secret: bytes, plain: str) -> str:
    """Return the stored hash of a key, from its plain hash: the database alone lets nobody test a guess."""
    return hmac.new(secret, plain.encode(), hashlib.sha256).hexdigest()


def redacted(key: str) -> str:
    """Return a key as lists show it."""
    if len(key) < _SHOWN_FROM_CHARS:
        return "…"
    return f"{key[: len(PREFIX)]}…{key[-_SHOWN_END_CHARS:]}"
