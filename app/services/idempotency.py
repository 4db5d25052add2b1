"""Idempotency keys: a request sent twice makes one object."""

import hashlib
import json
from collections.abc import Callable
from typing import TypeVar

from app.domain.errors import Conflict, InvalidRequest, KeyTaken, Unavailable
from app.domain.limits import MAX_IDEMPOTENCY_KEY_CHARS
from app.services.ports import Claim, IdempotencyStore

T = TypeVar("T")

_PARAM = "Idempotency-Key"


class Idempotency:
    """Lets the first request with a key make an object, and gives later requests the same object.

    The key is a row of the object's transaction, so the key is stored with the object and never before. A failed
    request, or a request of a dead process, leaves no key behind, and a stored key has an object. Of two requests at
    once, the database lets the first store its row; the second transaction fails whole, and the second request gets the
    first request's object.
    """

    def __init__(self, store: IdempotencyStore) -> None:
        self._store = store

    def once(
        self, tenant_id: str, claim: Claim | None, find: Callable[[str], T | None], make: Callable[[Claim | None], T]
    ) -> T:
        """Return the object that an earlier request with the key made, else the object that `make` stores.

        Args:
            tenant_id: the tenant of the key.
            claim: None for a request without a key, which counts as a first request.
            find: returns the object with an id, or None.
            make: stores the object together with the claim; raises KeyTaken if the key is taken.

        Raises:
            Conflict: the key was used for a different request, or the object of the request is deleted.
        """
        if claim is None:
            return make(None)
        made = self._made_before(tenant_id, claim, find)
        if made is not None:
            return made
        try:
            return make(claim)
        except KeyTaken:
            made = self._made_before(tenant_id, claim, find)
            if made is None:
                # The key was cleared as too old between the two looks: the next try makes the object.
                raise Unavailable("The Idempotency-Key was forgotten while it was looked up.") from None
            return made

    def _made_before(self, tenant_id: str, claim: Claim, find: Callable[[str], T | None]) -> T | None:
        known = self._store.get(tenant_id, claim.key)
        if known is None:
            return None
        if known.fingerprint != claim.fingerprint:
            raise Conflict(
                "This Idempotency-Key was used for another request: send a new key with a new request.",
                param=_PARAM,
                code="idempotency_key_reused",
            )
        found = find(known.object_id)
        if found is None:
            raise Conflict(
                f"The request with this Idempotency-Key made {known.object_id}, which is deleted: send a new key to"
                " make another.",
                param=_PARAM,
                code="idempotency_key_reused",
            )
        return found


def claim_of(key: str | None, kind: str, **parts: object) -> Claim | None:
    """Return the claim of a request's key on a kind and on parts that fit into JSON; None without a key.

    Raises:
        InvalidRequest: the key is empty or too long.
    """
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_CHARS:
        raise InvalidRequest(
            f"An Idempotency-Key has between 1 and {MAX_IDEMPOTENCY_KEY_CHARS} characters.",
            param=_PARAM,
            code="invalid_value",
        )
    text = json.dumps([kind, parts], sort_keys=True)
    return Claim(key, hashlib.sha256(text.encode()).hexdigest())
