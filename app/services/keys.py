"""API keys: who a caller is."""

from app.domain import ids
from app.domain.errors import NotAuthorized
from app.services.ports import Clock, KeyStore

# One tenant is enough to manage here; every object carries it, so that more can follow.
DEFAULT_TENANT = "default"


class KeyService:
    """Knows callers by their key, of which only the hash is stored."""

    def __init__(self, keys: KeyStore, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def tenant_of(self, key: str | None) -> str:
        """Return the tenant whose key this is; NotAuthorized where it is nobody's."""
        if not key:
            raise NotAuthorized(
                "You didn't provide an API key. Send it in the Authorization header: Authorization: Bearer YOUR_KEY."
                " Azure's clients send it as api-key: YOUR_KEY.",
                code="invalid_api_key",
            )
        tenant_id = self._keys.tenant_of(ids.hash_api_key(key))
        if tenant_id is None:
            # Nothing of the key is repeated: an answer may end in a log that others read.
            raise NotAuthorized("Incorrect API key provided.", code="invalid_api_key")
        return tenant_id

    def ensure(self, key: str) -> None:
        """Make sure that this key is let in."""
        self._keys.add(ids.hash_api_key(key), DEFAULT_TENANT, self._clock.now())
