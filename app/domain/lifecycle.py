"""The whole life of a batch as one table.

    validating ──accepted──▶ in_progress ──all_recorded──▶ finalizing ──files_written──▶ completed
        │  │  │                 │    │                         │   └──gave_up──▶ failed
        │  │  └──rejected──▶ failed ◀┤ (gave_up)               │
        │  │                    │    └──window_elapsed──┐      │
        │  └──window_elapsed────┼──────────────────▶ expiring ─┼──files_written──▶ expired
        │                       │                       └──────┼──gave_up──▶ failed
        └──cancel_requested─────┴──────▶ cancelling ◀──────────┘ (cancel_requested)
                                             ├──files_written──▶ cancelled
                                             └──gave_up──▶ failed

`expiring` is wylon's own status: callers see `finalizing`, since the clients in use raise on a status that they do not
know.
"""

from enum import StrEnum

from app.domain.errors import StateConflict


class Status(StrEnum):
    """A status in the life of a batch."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    EXPIRING = "expiring"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Event(StrEnum):
    """An event in the life of a batch."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CANCEL_REQUESTED = "cancel_requested"
    WINDOW_ELAPSED = "window_elapsed"
    ALL_RECORDED = "all_recorded"
    FILES_WRITTEN = "files_written"
    GAVE_UP = "gave_up"


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.VALIDATING, Event.ACCEPTED): Status.IN_PROGRESS,
    (Status.VALIDATING, Event.REJECTED): Status.FAILED,
    (Status.VALIDATING, Event.CANCEL_REQUESTED): Status.CANCELLING,
    (Status.VALIDATING, Event.WINDOW_ELAPSED): Status.EXPIRING,
    (Status.IN_PROGRESS, Event.ALL_RECORDED): Status.FINALIZING,
    (Status.IN_PROGRESS, Event.CANCEL_REQUESTED): Status.CANCELLING,
    (Status.IN_PROGRESS, Event.WINDOW_ELAPSED): Status.EXPIRING,
    (Status.IN_PROGRESS, Event.GAVE_UP): Status.FAILED,
    (Status.FINALIZING, Event.CANCEL_REQUESTED): Status.CANCELLING,
    (Status.FINALIZING, Event.FILES_WRITTEN): Status.COMPLETED,
    (Status.FINALIZING, Event.GAVE_UP): Status.FAILED,
    (Status.CANCELLING, Event.FILES_WRITTEN): Status.CANCELLED,
    (Status.CANCELLING, Event.GAVE_UP): Status.FAILED,
    (Status.EXPIRING, Event.FILES_WRITTEN): Status.EXPIRED,
    (Status.EXPIRING, Event.GAVE_UP): Status.FAILED,
}

TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})
ACTIVE = frozenset(Status) - TERMINAL
# Results are accepted in these statuses, as long as finalizing has not sealed the batch.
RECORDING = frozenset({Status.IN_PROGRESS, Status.CANCELLING, Status.EXPIRING})
# A cancel in these statuses answers like the first cancel, and moves nothing.
CANCEL_ACKNOWLEDGED = frozenset({Status.CANCELLING, Status.CANCELLED})


def next_status(status: Status, event: Event) -> Status:
    """Return the status that `event` leads to from `status`; raise StateConflict if the event may not happen."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise StateConflict(f"A batch that is {shown(status)} does not take the event {event}.") from None


def shown(status: Status) -> Status:
    """Return the status as callers know it."""
    return Status.FINALIZING if status is Status.EXPIRING else status


def stamps(status: Status) -> tuple[str, ...]:
    """Return the names of the instants that entering `status` sets."""
    if status is Status.EXPIRING:
        return ("finalizing_at",)
    if status is Status.VALIDATING:
        return ()
    return (f"{status.value}_at",)
