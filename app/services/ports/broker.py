"""The other processes, as seen by the use cases: messages for processes, and the live workers."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol

# After this long without a change of the report a worker counts as dead, and takes itself for dead: other workers may
# run the tasks.
REPORT_LIFETIME_S = 6.0


class LineTask(NamedTuple):
    """A Celery task of a batch: its number, and the positions from `first` up to and without `end`."""

    number: int
    first: int
    end: int


class Delivery(StrEnum):
    """How a line task is sent."""

    # The lines have never run, as far as the sender knows.
    FIRST = "first"
    # The task was lost: its worker first looks up the lines with a result.
    AGAIN = "again"
    # The task's workers died again and again: lines run one at a time, and the deaths of workers are counted by line.
    ALONE = "alone"


class Unacked(NamedTuple):
    """A message that a worker took and has not acknowledged."""

    tag: str
    task_id: str
    is_lines: bool
    # The batch of a control message; None for line tasks, refills and ticks.
    batch_id: str | None


class Queue(Protocol):
    """Messages to the other processes: ids only, and every message is idempotent."""

    def validate(self, batch_id: str) -> None: ...

    def refill(self) -> None: ...

    def close(self, batch_id: str) -> None:
        """Ask control to send no more of a batch that was cancelled or has expired, and to end the batch."""

    def finalize(self, batch_id: str) -> None: ...

    def has_file_messages(self) -> bool:
        """Return whether a message to validate or finalize a batch waits."""

    def open_chord(self, batch_id: str, tasks: int) -> None:
        """Fix how many line tasks must return before the chord's callback finalizes the batch, unless already fixed."""

    def close_chord(self, batch_id: str, dispatched: int, tasks: int) -> None:
        """Lower the chord's number to the tasks already sent, and send a task that returns at once."""

    def publish_lines(
        self, batch_id: str, upstream: str, tasks: Sequence[LineTask], delivery: Delivery, fence: str
    ) -> bool:
        """Send line tasks for one upstream; return False if the batch was fenced since `fence` was read."""

    def queued_tasks(self) -> set[str]:
        """Return the ids of the line tasks in the queues."""

    def drop_unknown_queues(self) -> None:
        """Delete line tasks for upstreams that are gone; repair sends the tasks again if an upstream comes back."""

    def forget(self, batch_id: str) -> None:
        """Delete the broker's data for the batch's chord."""

    def chords(self) -> set[str]:
        """Return the group ids of all chords with data in the broker."""

    def drop_chords(self, group_ids: Collection[str]) -> None:
        """Delete the broker's data for these chords."""

    def unacked(self, limit: int) -> list[Unacked]:
        """Return up to `limit` messages that were taken and not acknowledged, the oldest first."""

    def drop_unacked(self, tags: Sequence[str]) -> None:
        """Delete messages that nobody will acknowledge."""


class LaneState(NamedTuple):
    """A worker's report about its calls to one upstream."""

    # The most calls in flight.
    slots: int
    lines_per_s: float = 0.0
    # Lines that wait for a retry: in the worker's hands, but in no slot.
    lines_paused: int = 0
    # The reason that bounds the slots.
    bound_by: str = ""
    in_flight: int = 0
    # Calls in flight for all workers together, as found by this worker; 0 for no bound.
    bound: int = 0
    # The instant, in seconds since the epoch, when this worker began to lead the search for the bound; 0 if a peer
    # leads.
    leads_since: float = 0.0
    # The instant of the report, in seconds since the epoch.
    at: float = 0.0
    # The failing server and its failure; empty if no server fails.
    away: str = ""


class WorkerState(NamedTuple):
    """The report of a live worker, sent each second."""

    name: str
    held_tasks: tuple[str, ...]
    # By upstream.
    lanes: dict[str, LaneState]


class Roster(Protocol):
    """The live workers, and data that only lives as long as the broker does."""

    def report(self, state: WorkerState) -> None:
        """Report that this worker lives; the report holds for a few seconds."""

    def leave(self, name: str) -> None:
        """Report that this worker ends: its tasks are free."""

    def count_losses(self, batch_id: str, task_numbers: Sequence[int]) -> None:
        """Count a loss for each task lost with its worker; the counts expire after an hour without a loss."""

    def losses(self, batch_id: str) -> dict[int, int]:
        """Return the losses of each task of the batch, without tasks that were never lost."""

    def batches_with_losses(self) -> set[str]:
        """Return the ids of the batches with counted losses or noted missing tasks."""

    def forget_losses(self, batch_id: str) -> None:
        """Delete the counts and the notes of an ended batch."""

    def workers(self) -> list[WorkerState]:
        """Return the workers with a recent report."""

    def missing_since(self, missing: Mapping[str, Collection[int]]) -> dict[str, dict[int, str]]:
        """Note the missing tasks; return, by batch and task, the first look since which every look missed the task.

        `missing` has every batch looked at, also batches without a missing task. A look has the same name in every
        process. A task that is not in `missing` starts anew at the next absence.
        """

    def not_missing(self, numbers: Mapping[str, Collection[int]]) -> None:
        """Start the time of these tasks anew."""

    def fence(self, batch_ids: Collection[str]) -> None:
        """Have the queue refuse messages for these batches from every sender that read a fence before."""

    def fences(self, batch_ids: Sequence[str]) -> dict[str, str]:
        """Return the fences by batch, to read before moving a cursor or finding lost tasks."""

    def fenced_batches(self) -> set[str]:
        """Return the ids of the batches with a fence."""

    def forget_fences(self, batch_ids: Collection[str]) -> None:
        """Delete the fences of ended batches."""

    def lock(self, name: str, seconds: float) -> AbstractContextManager[bool]:
        """Hold a lock; yield False if another process has the lock.

        After seeing another process hold the lock for `seconds`, a process takes the lock over: the holder's own time
        bounds the protected work, and the database guards any later work.
        """
