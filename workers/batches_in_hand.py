"""The batches whose lines this process runs, with what is asked for at each task kept at hand."""

import threading
from dataclasses import dataclass

from app.domain.lifecycle import Status
from app.services.ports import BatchStore


@dataclass(eq=False, slots=True)
class BatchInHand:
    """What the lines of one batch share in this process."""

    id: str
    endpoint: str
    deadline: float
    input_blob: str
    plan_blob: str
    # Set once the batch was cancelled or its window elapsed: nothing more is started.
    is_stopped: bool = False
    # When calls still in flight are broken off; set with `is_stopped`.
    aborts_at: float = 0.0
    tenant_id: str = ""
    created_at: float = 0.0


class BatchesInHand:
    """Reads batches once and keeps them until they are forgotten; safe to use from any thread.

    Each is followed for as long as it is kept, so that it can be stopped, and forgotten some time after it has ended.
    """

    def __init__(self, batches: BatchStore) -> None:
        self._batches = batches
        self._known: dict[str, BatchInHand] = {}
        self._lock = threading.Lock()

    def get(self, batch_id: str) -> BatchInHand | None:
        """Return the batch; None where no line of it may be started."""
        with self._lock:
            known = self._known.get(batch_id)
            if known is not None:
                return None if known.is_stopped else known
        row = self._batches.find(batch_id)
        if row is None or row.status is not Status.IN_PROGRESS or row.input_blob is None or row.plan_blob is None:
            return None
        batch = BatchInHand(
            row.id,
            row.endpoint,
            row.expires_at,
            row.input_blob,
            row.plan_blob,
            tenant_id=row.tenant_id,
            created_at=row.created_at,
        )
        with self._lock:
            return self._known.setdefault(batch_id, batch)

    def all(self) -> list[BatchInHand]:
        """Return all that are kept."""
        with self._lock:
            return list(self._known.values())

    def forget(self, batch: BatchInHand) -> None:
        """Drop a batch that ended."""
        with self._lock:
            self._known.pop(batch.id, None)
