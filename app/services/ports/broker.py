"""The other processes, as the use cases see them: messages to them, and who of them is alive."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol

# A worker whose report was seen not to change for this long is taken for dead, and by then takes itself for dead: what
# it held is others' to run.
REPORT_LIFETIME_S = 6.0


class LineTask(NamedTuple):
    """One Celery task of a batch: its number, and the positions from `first` up to and without `end`."""

    number: int
    first: int
    end: int


class Delivery(StrEnum):
    """How a line task is sent."""

    # Its lines have never run, as far as the sender knows.
    FIRST = "first"
    # It was lost: its worker looks first which lines have a result.
    AGAIN = "again"
    # Its workers died again and again: its lines run one at a time, and those that end a worker are counted.
    ALONE = "alone"


class Unacked(NamedTuple):
    """A message that a worker took and has not acknowledged."""

    tag: str
    task_id: str
    is_lines: bool
    # The batch that a message of control is about; None for line tasks, refills and ticks.
    batch_id: str | None


class Queue(Protocol):
    """Messages to the other processes: ids only, each safe to deliver twice."""

    def validate(self, batch_id: str) -> None: ...

    def refill(self) -> None: ...

    def close(self, batch_id: str) -> None:
        """Ask control to send nothing more of a batch that was cancelled or has expired, and to end it."""

    def finalize(self, batch_id: str) -> None: ...

    def open_chord(self, batch_id: str, tasks: int) -> None:
        """Fix how many line tasks must return before the chord's callback finalizes the batch, unless that is fixed."""

    def close_chord(self, batch_id: str, dispatched: int, tasks: int) -> None:
        """Lower that number to the tasks already sent, and send one that returns at once."""

    def publish_lines(
        self, batch_id: str, upstream: str, tasks: Sequence[LineTask], delivery: Delivery, fence: str
    ) -> bool:
        """Send line tasks for one upstream, unless the batch was fenced since `fence` was read; say whether it did."""

    def queued_tasks(self) -> set[str]:
        """Return the ids of the line tasks that wait in the queues."""

    def drop_unknown_queues(self) -> None:
        """Delete line tasks for upstreams that there are no more; repair sends them again should one come back."""

    def forget(self, batch_id: str) -> None:
        """Drop what the broker keeps for the batch's chord."""

    def chords(self) -> set[str]:
        """Return the group ids of all chords that the broker keeps something for."""

    def drop_chords(self, group_ids: Collection[str]) -> None:
        """Drop what the broker keeps for these chords."""

    def unacked(self, limit: int) -> list[Unacked]:
        """Return up to `limit` messages that were taken and not acknowledged; the oldest first."""

    def drop_unacked(self, tags: Sequence[str]) -> None:
        """Delete messages that nobody will acknowledge."""


class LaneState(NamedTuple):
    """What a worker says of its calls to one upstream."""

    # Calls that may be in flight.
    slots: int
    lines_per_s: float = 0.0
    # Lines that wait to be tried again: they are in its hands and keep nothing busy.
    lines_paused: int = 0
    # What keeps the slots from being more.
    bound_by: str = ""
    in_flight: int = 0
    # Calls in flight that all workers should have together, as far as this one found; 0 for no bound.
    bound: int = 0
    # The instant, in seconds since the epoch, from which it looks for that bound for all; 0 where another does.
    leads_since: float = 0.0
    # When it says so, in seconds since the epoch.
    at: float = 0.0
    # Which server fails, and by what; empty where none does.
    away: str = ""


class WorkerState(NamedTuple):
    """What a live worker says of itself each second."""

    name: str
    held_tasks: tuple[str, ...]
    # By upstream.
    lanes: dict[str, LaneState]


class Roster(Protocol):
    """Who is alive, and what only lives as long as the broker does."""

    def report(self, state: WorkerState) -> None:
        """Say that this worker lives; believed for a few seconds."""

    def leave(self, name: str) -> None:
        """Say that this worker ends: what it held is free."""

    def count_losses(self, batch_id: str, task_numbers: Sequence[int]) -> None:
        """Count for each task that it was lost with a worker that had taken it; forgotten after an hour without one."""

    def losses(self, batch_id: str) -> dict[int, int]:
        """Return how often each task of the batch was counted, those that never were left out."""

    def batches_with_losses(self) -> set[str]:
        """Return the ids of the batches for which losses are kept."""

    def forget_losses(self, batch_id: str) -> None:
        """Drop the counts of a batch that has ended."""

    def workers(self) -> list[WorkerState]:
        """Return the workers that reported lately."""

    def missing_since(self, missing: Mapping[str, Collection[int]]) -> dict[str, dict[int, str]]:
        """Note which tasks are missing; return by batch, for each, the look since which it was missing at every look.

        The batches are those that were looked at, also where none of their tasks is missing. A look has a name, equal
        for all processes. A task that is not among them starts anew when it is missing again.
        """

    def not_missing(self, numbers: Mapping[str, Collection[int]]) -> None:
        """Have these tasks start anew."""

    def fence(self, batch_ids: Collection[str]) -> None:
        """Have the queue refuse what is sent of these batches by whoever read their fences before."""

    def fences(self, batch_ids: Sequence[str]) -> dict[str, str]:
        """Return the fence of each batch, to be read before its cursor is moved or its lost tasks are found."""

    def fenced_batches(self) -> set[str]:
        """Return the ids of the batches for which a fence is kept."""

    def forget_fences(self, batch_ids: Collection[str]) -> None:
        """Drop the fences of batches that have ended."""

    def lock(self, name: str, seconds: float) -> AbstractContextManager[bool]:
        """Hold a lock; yields False where another has it.

        Who has seen another hold it for `seconds` takes it over: what it protects is bounded by the holder's own time,
        and guarded by the database where it is not.
        """
