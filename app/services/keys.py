"""API keys: identify callers, and manage the keys."""

from collections.abc import Callable

from app.domain.api_key import MAX_NAME_CHARS, ApiKey, keyed_hash, new_api_key, new_key_id, plain_hash, redacted
from app.domain.errors import Conflict, InvalidRequest, NotAuthorized, NotFound
from app.services.ports import Clock, KeyStore

# A single tenant is enough to manage here; every object carries the tenant, for more tenants to follow.
DEFAULT_TENANT = "default"


class KeyService:
    """Identifies callers by their key; only a keyed hash of a key is stored.

    Args:
        keys: the rows of keys.
        clock: the time of day.
        secret: the key of the hashes; not in the database.
        on_use: called with the id of a key each time the key lets a caller in.
    """

    def __init__(
        self, keys: KeyStore, clock: Clock, secret: bytes, *, on_use: Callable[[str], None] = lambda _: None
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._secret = secret
        self._on_use = on_use

    def identify(self, key: str | None) -> ApiKey:
        """Return the key with this value; raise NotAuthorized if the key is unknown or revoked."""
        if not key:
            raise NotAuthorized(
                "You didn't provide an API key. Send it in the Authorization header: Authorization: Bearer YOUR_KEY.",
                code="invalid_api_key",
            )
        found = self._keys.find(self._hash(key))
        if found is None or found.revoked_at is not None:
            # The answer repeats nothing of the key: an answer may end in a log with other readers.
            raise NotAuthorized("Incorrect API key provided.", code="invalid_api_key")
        self._on_use(found.id)
        return found

    def ensure(self, key: str, name: str = "first") -> bool:
        """Make sure that the key is known; return whether the key lets callers in, which a revoked key does not."""
        self._add(name, key)
        found = self._keys.find(self._hash(key))
        return found is not None and found.revoked_at is None

    def add(self, name: str) -> tuple[ApiKey, str]:
        """Make a key; return the key and its value, which nobody can find out later.

        Raises:
            InvalidRequest: the name is empty, too long or can't be printed.
            Conflict: a key in use has this name.
        """
        if not (name.isprintable() and name.strip() == name and 1 <= len(name) <= MAX_NAME_CHARS):
            raise InvalidRequest(f"The name of a key has between 1 and {MAX_NAME_CHARS} printable characters.")
        if any(known.name == name and known.revoked_at is None for known in self._keys.all()):
            raise Conflict(f"There is a key named {name!r}: choose another name, or revoke that key first.")
        value = new_api_key()
        return self._add(name, value), value

    def all(self) -> list[ApiKey]:
        """Return all keys, the newest last, revoked keys included."""
        return self._keys.all()

    def revoke(self, which: str) -> ApiKey:
        """Revoke a key: within a second, no process lets a caller in by the key.

        Args:
            which: the id of the key, or the name of the only key in use with this name.

        Raises:
            NotFound: no key in use has this id or name.
            Conflict: several keys in use have this name.
        """
        found = [key for key in self._keys.all() if key.revoked_at is None and which in (key.id, key.name)]
        if not found:
            raise NotFound(f"There is no key {which!r} in use: `wylon keys list` shows ids and names.")
        if len(found) > 1:
            raise Conflict(f"{len(found)} keys are named {which!r}: give the id of one of them.")
        self._keys.revoke(found[0].id, self._clock.now())
        return found[0]

    def _add(self, name: str, value: str) -> ApiKey:
        key = ApiKey(new_key_id(), DEFAULT_TENANT, name, redacted(value), self._clock.now())
        self._keys.add(key, self._hash(value))
        return key

    def _hash(self, key: str) -> str:
        return keyed_hash(self._secret, plain_hash(key))
