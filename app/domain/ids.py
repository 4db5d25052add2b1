"""Ids: random ids for objects that callers create, derived ids that must come out equal each time."""

import hashlib
import secrets
from uuid import UUID, uuid5

# wylon's own namespace: no other use of uuid5 yields equal ids.
_NAMESPACE = UUID("8a3f0d52-5f0e-4c0b-9d55-0a4b7a4d3c11")


def new_batch_id() -> str:
    """Return a new id of a batch: `batch_` and 32 hex digits."""
    return f"batch_{secrets.token_hex(16)}"


def new_file_id() -> str:
    """Return a new id of a file: `file-` and 32 hex digits."""
    return f"file-{secrets.token_hex(16)}"


def new_request_id() -> str:
    """Return a new id of an API request: `req_` and 32 hex digits."""
    return f"req_{secrets.token_hex(16)}"


def new_token() -> str:
    """Return a token that tells holders of a lease, or tries at writing a blob, apart."""
    return secrets.token_hex(8)


def group_id(batch_id: str) -> str:
    """Return the chord's group id of a batch."""
    return str(uuid5(_NAMESPACE, batch_id))


def task_id(batch_id: str, number: int) -> str:
    """Return the Celery task id of a batch's task `number` (0-based)."""
    return str(uuid5(_NAMESPACE, f"{batch_id}:{number}"))


def line_request_id(batch_id: str, position: int) -> str:
    """Return the id of a line in the files: the same at every try."""
    digest = hashlib.blake2b(b"%s:%d" % (batch_id.encode(), position), digest_size=16)
    return f"batch_req_{digest.hexdigest()}"
