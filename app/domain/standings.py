"""Where running batches and their tenants stand: what they have of a window, and what their share of it is."""

from dataclasses import dataclass, field
from typing import NamedTuple

from app.domain.batch import RunningTotal


class RunningBatch(NamedTuple):
    """What counts of a batch: lines with the workers or before them, lines that wait, instants in seconds."""

    id: str
    tenant_id: str
    lines_outstanding: int
    lines_waiting: int
    lines_per_task: int
    created_at: float
    expires_at: float
    # It came a moment ago and has had next to nothing.
    is_young: bool = False
    # It is young, or the newest of its tenant's that have had nothing.
    is_new: bool = False


@dataclass(eq=False)
class BatchStanding:
    """A batch among its tenant's: its weight, and its share of the window in lines. Giving it a task changes it."""

    batch: RunningBatch
    weight: float
    outstanding: int
    waiting: int
    tasks_a_turn: int
    share: float = 0.0

    @property
    def turn_lines(self) -> int:
        """Lines of its next turn."""
        return min(self.batch.lines_per_task * self.tasks_a_turn, self.waiting)

    @property
    def level(self) -> float:
        """What it has for its weight, the middle of its next turn counted in: large tasks gain and lose nothing."""
        return (self.outstanding + self.turn_lines / 2) / self.weight

    @property
    def is_short(self) -> bool:
        """Whether it waits with less than half of its share."""
        return self.waiting > 0 and self.outstanding * 2 < self.share

    @property
    def is_over(self) -> bool:
        """Whether it has more than its share, and not only as a turn is more."""
        return self.outstanding > self.share + self.batch.lines_per_task * self.tasks_a_turn


@dataclass(eq=False)
class TenantStanding:
    """A tenant among the others: its weight, its share of the window in lines, and its batches."""

    id: str
    weight: float
    batches: list[BatchStanding]
    # Its running batches that no turn is for. What they have is counted, but they get nothing.
    others: RunningTotal
    share: float = 0.0
    # The part of its share that is for the others.
    share_of_others: float = 0.0
    outstanding: int = 0
    # Batches with lines that wait, the next one first; of equals the nearest deadline.
    turns: list[tuple[float, int]] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """Lines of all its batches that wait."""
        return sum(standing.waiting for standing in self.batches)

    @property
    def is_short(self) -> bool:
        """Whether it waits with less than half of its share, or with nothing outstanding."""
        return bool(self.turns) and (self.outstanding == 0 or self.outstanding * 2 < self.share)

    @property
    def is_crowded(self) -> bool:
        """Whether some of its batches have more than their share."""
        return self.others.lines_outstanding > self.share_of_others or any(each.is_over for each in self.batches)

    @property
    def next_batch(self) -> BatchStanding:
        """The batch that gets the tenant's next task; there has to be one that waits."""
        return self.batches[self.turns[0][1]]

    @property
    def level(self) -> float:
        """What it has for its weight, as of a batch; with nothing outstanding it is first, however small its weight."""
        return (self.outstanding + self.next_batch.turn_lines / 2) / self.weight if self.outstanding else 0.0
