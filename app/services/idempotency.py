"""Idempotency keys: the same request sent twice makes one object."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from app.domain.errors import Conflict, InvalidRequest, Unavailable
from app.domain.limits import MAX_IDEMPOTENCY_KEY_CHARS
from app.services.ports import Clock, IdempotencyStore

T = TypeVar("T")

# Longer than any request is served: a key claimed before that, whose object is not there, is claimed anew.
_STALE_S = 900.0


class TwinUnfinished(Unavailable):
    """What an earlier request with the same key makes is not there yet, or not any more."""


class Once(NamedTuple):
    """One request's hold on its key: `object_id` is what the request is to make, or what it made before."""

    object_id: str
    is_first: bool


class Idempotency:
    """Lets the first request with a key make its object, and tells the others which one that was."""

    def __init__(self, store: IdempotencyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @contextmanager
    def once(
        self, tenant_id: str, key: str | None, fingerprint: str, object_id: str, find: Callable[[str], object | None]
    ) -> Iterator[Once]:
        """Hold `key` while the object `object_id` is made; an error inside forgets the key, so that a retry may work.

        An error that leaves open whether the object was stored keeps the key: a retry then gets that object, or, once
        the key is stale, makes it.

        Args:
            tenant_id: whose key this is.
            key: what the caller sent; None where it sent none, and every request is a first one.
            fingerprint: equal for equal requests, and for no others.
            object_id: the id that the object gets if this request is the first.
            find: returns the object with an id, None where there is none.

        Raises:
            InvalidRequest: the key is empty or too long.
            Conflict: another request had this key.
        """
        if key is None:
            yield Once(object_id, is_first=True)
            return
        if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_CHARS:
            raise InvalidRequest(
                f"An Idempotency-Key has between 1 and {MAX_IDEMPOTENCY_KEY_CHARS} characters.",
                param="Idempotency-Key",
                code="invalid_value",
            )
        now = self._clock.now()
        stored, known_id = self._store.claim(tenant_id, key, fingerprint, object_id, now)
        # The process that held the key may have died before it made anything.
        is_stale = known_id != object_id and find(known_id) is None
        if is_stale and self._store.release_stale(tenant_id, key, now - _STALE_S):
            stored, known_id = self._store.claim(tenant_id, key, fingerprint, object_id, now)
        if stored != fingerprint:
            raise Conflict(
                "This Idempotency-Key was used for another request: send a new key with a new request.",
                param="Idempotency-Key",
                code="idempotency_key_reused",
            )
        if known_id != object_id:
            yield Once(known_id, is_first=False)
            return
        try:
            yield Once(object_id, is_first=True)
        except Unavailable:
            raise
        except BaseException:
            self._store.release(tenant_id, key)
            raise


def fingerprint_of(kind: str, **parts: object) -> str:
    """Return what is equal for equal requests: a hash over their kind and their parts, which JSON can hold."""
    text = json.dumps([kind, parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def first_answer(find: Callable[[str], T | None], object_id: str) -> T:
    """Return the object that an earlier request with the same key made.

    Raises:
        TwinUnfinished: it is not there yet, since the first request is still being served, or not any more.
    """
    found = find(object_id)
    if found is None:
        raise TwinUnfinished(
            "The first request with this Idempotency-Key is still being served, or what it made is deleted:"
            " wait a moment, or send a new key."
        )
    return found
