"""The outside needs of the use cases, as Protocols; adapters hold the real implementations, tests the fakes.

Instants are seconds since 1970, UTC.
"""

from app.services.ports.blobs import Blobs, BlobWriter, read_whole
from app.services.ports.broker import (
    REPORT_LIFETIME_S,
    Delivery,
    LaneState,
    LineTask,
    Queue,
    Roster,
    Unacked,
    WorkerState,
)
from app.services.ports.clock import Clock
from app.services.ports.keys import IdempotencyStore, KeyStore
from app.services.ports.models import ANYBODY, Answer, Caller, ModelCatalog, Upstream
from app.services.ports.stores import (
    PAUSED,
    BatchStore,
    Claim,
    FileStore,
    Known,
    Lease,
    Move,
    Planned,
    Progress,
    ResultStore,
    TickStore,
    TrialStore,
    Written,
)

__all__ = [
    "ANYBODY",
    "PAUSED",
    "REPORT_LIFETIME_S",
    "Answer",
    "BatchStore",
    "BlobWriter",
    "Blobs",
    "Caller",
    "Claim",
    "Clock",
    "Delivery",
    "FileStore",
    "IdempotencyStore",
    "KeyStore",
    "Known",
    "LaneState",
    "Lease",
    "LineTask",
    "ModelCatalog",
    "Move",
    "Planned",
    "Progress",
    "Queue",
    "ResultStore",
    "Roster",
    "TickStore",
    "TrialStore",
    "Unacked",
    "Upstream",
    "WorkerState",
    "Written",
    "read_whole",
]
