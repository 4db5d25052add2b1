"""An API key as it is known after it was shown once: by its name, its end and its keyed hash."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

PREFIX = "sk-wy-"
# Of a shorter key, its ends would tell too much to whoever guesses the rest.
_SHOWN_FROM_CHARS = 24
_SHOWN_END_CHARS = 4
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key of a tenant. Instants are seconds since 1970, UTC."""

    id: str
    tenant_id: str
    name: str
    # Enough of the key for a person to tell it from others.
    redacted_value: str
    created_at: float
    # To the minute.
    last_used_at: float | None = None
    revoked_at: float | None = None


def new_api_key() -> str:
    """Return a new API key: `sk-wy-` and 43 characters of 256 random bits."""
    return f"{PREFIX}{secrets.token_urlsafe(32)}"


def new_key_id() -> str:
    """Return a new id of an API key: `key_` and 24 hex digits."""
    return f"key_{secrets.token_hex(12)}"


def plain_hash(key: str) -> str:
    """Return the SHA-256 of a key in hex: before keyed hashes, the database had this."""
    return hashlib.sha256(key.encode()).hexdigest()


def keyed_hash(secret: bytes, plain: str) -> str:
    """Return the hash that is stored of a key, from its plain hash: the database alone lets nobody test a guess."""
    return hmac.new(secret, plain.encode(), hashlib.sha256).hexdigest()


def redacted(key: str) -> str:
    """Return a key as lists show it."""
    if len(key) < _SHOWN_FROM_CHARS:
        return "…"
    return f"{key[: len(PREFIX)]}…{key[-_SHOWN_END_CHARS:]}"
