"""The batches whose lines this process runs; keeps at hand the fields needed for every task."""

import threading
from dataclasses import dataclass

from app.domain.batch import Section
from app.domain.lifecycle import Status
from app.services.ports import BatchStore


@dataclass(eq=False, slots=True)
class BatchInHand:
    """The fields of a batch that its lines share in this process."""

    id: str
    endpoint: str
    deadline: float
    input_blob: str
    plan_blob: str
    # Set once the batch was cancelled or the completion window elapsed: no more lines start.
    is_stopped: bool = False
    # When calls still in flight are cancelled; set with `is_stopped`.
    aborts_at: float = 0.0
    tenant_id: str = ""
    created_at: float = 0.0
    # The model that all lines share.
    model: str | None = None
    sections: tuple[Section, ...] = ()

    def has_lines(self, upstream: str, first: int, end: int) -> bool:
        """Whether the lines from `first` up to and without `end` are for this upstream.

        A message that outlived a power cut may be of a plan that the database lost, and that was made otherwise since.
        """
        return any(
            section.upstream == upstream and section.first_line <= first and end <= section.end_line
            for section in self.sections
        )


class BatchesInHand:
    """Reads a batch once and keeps the batch until `forget`; thread-safe.

    The heartbeat follows the status of every kept batch, to stop an ended batch and later forget the batch.
    """

    def __init__(self, batches: BatchStore) -> None:
        self._batches = batches
        self._known: dict[str, BatchInHand] = {}
        self._lock = threading.Lock()

    def get(self, batch_id: str) -> BatchInHand | None:
        """Return the batch, or None if no line of the batch may start."""
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
            model=row.model,
            sections=row.sections,
        )
        with self._lock:
            # Another thread may have read the batch as well, and the follower may have stopped the batch since.
            kept = self._known.setdefault(batch_id, batch)
            return None if kept.is_stopped else kept

    def all(self) -> list[BatchInHand]:
        """Return the kept batches."""
        with self._lock:
            return list(self._known.values())

    def forget(self, batch: BatchInHand) -> None:
        """Drop a batch that ended."""
        with self._lock:
            self._known.pop(batch.id, None)
