"""The batches whose lines this process runs, with what is asked for at each task kept at hand."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from app.domain.lifecycle import Status
from app.services.ports import BatchStore

# More batches than this at once in one process: the one used longest ago is read again when it is needed.
_MAX_BATCHES = 256


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


class BatchesInHand:
    """Reads batches once and keeps them; safe to use from any thread."""

    def __init__(self, batches: BatchStore) -> None:
        self._batches = batches
        self._known: OrderedDict[str, BatchInHand] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, batch_id: str) -> BatchInHand | None:
        """Return the batch; None where no line of it may be started."""
        with self._lock:
            known = self._known.get(batch_id)
            if known is not None:
                self._known.move_to_end(batch_id)
                return None if known.is_stopped else known
        row = self._batches.find(batch_id)
        if row is None or row.status is not Status.IN_PROGRESS or row.input_blob is None or row.plan_blob is None:
            return None
        batch = BatchInHand(row.id, row.endpoint, row.expires_at, row.input_blob, row.plan_blob)
        with self._lock:
            while len(self._known) >= _MAX_BATCHES:
                self._known.popitem(last=False)
            return self._known.setdefault(batch_id, batch)

    def all(self) -> list[BatchInHand]:
        """Return all that are kept."""
        with self._lock:
            return list(self._known.values())

    def forget(self, batch: BatchInHand) -> None:
        """Drop a batch that ended."""
        with self._lock:
            self._known.pop(batch.id, None)
