"""Standings of running batches and of tenants: lines outstanding, compared with a share of the dispatch window."""

from dataclasses import dataclass, field
from typing import NamedTuple

from app.domain.batch import RunningTotal


class RunningBatch(NamedTuple):
    """A running batch as dispatch sees it: counts of lines, and instants in seconds since 1970."""

    id: str
    tenant_id: str
    lines_outstanding: int
    lines_waiting: int
    lines_per_task: int
    created_at: float
    expires_at: float
    # The batch began a moment ago and has had hardly any line handed out.
    is_young: bool = False
    # The batch is young, or the newest of its tenant's batches without a line handed out.
    is_new: bool = False


@dataclass(eq=False)
class BatchStanding:
    """A batch beside the other batches of its tenant; a task for the batch changes the standing.

    `share` is the batch's share of the dispatch window, in lines.
    """

    batch: RunningBatch
    weight: float
    outstanding: int
    waiting: int
    tasks_a_turn: int
    share: float = 0.0

    @property
    def turn_lines(self) -> int:
        """Lines that the next turn hands out."""
        return min(self.batch.lines_per_task * self.tasks_a_turn, self.waiting)

    @property
    def level(self) -> float:
        """Outstanding lines divided by the weight. Half of the next turn counts: large tasks must gain nothing."""
        return (self.outstanding + self.turn_lines / 2) / self.weight

    @property
    def is_short(self) -> bool:
        """Whether lines wait while the batch has less than half of its share."""
        return self.waiting > 0 and self.outstanding * 2 < self.share

    @property
    def is_over(self) -> bool:
        """Whether the batch is over its share by more than one turn."""
        return self.outstanding > self.share + self.batch.lines_per_task * self.tasks_a_turn


@dataclass(eq=False)
class TenantStanding:
    """A tenant beside the other tenants; `share` is the tenant's share of the dispatch window, in lines."""

    id: str
    weight: float
    batches: list[BatchStanding]
    # Running batches outside this look: the outstanding lines count, and no turn is for these batches.
    others: RunningTotal
    share: float = 0.0
    # The part of the share that belongs to the batches in `others`.
    share_of_others: float = 0.0
    outstanding: int = 0
    # A heap of (level, index in `batches`) for batches with waiting lines: the next batch is first.
    turns: list[tuple[float, int]] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """Waiting lines of all batches of the tenant."""
        return sum(standing.waiting for standing in self.batches)

    @property
    def is_short(self) -> bool:
        """Whether lines wait while the tenant has no outstanding lines, or less than half of its share."""
        return bool(self.turns) and (self.outstanding == 0 or self.outstanding * 2 < self.share)

    @property
    def held_over_shares(self) -> int:
        """Outstanding lines of batches over their shares."""
        return sum(each.outstanding for each in self.batches if each.is_over)

    @property
    def is_crowded(self) -> bool:
        """Whether a batch of the tenant has more than the batch's share."""
        return self.others.lines_outstanding > self.share_of_others or any(each.is_over for each in self.batches)

    @property
    def next_batch(self) -> BatchStanding:
        """The batch that gets the tenant's next task; `turns` must not be empty."""
        return self.batches[self.turns[0][1]]

    @property
    def level(self) -> float:
        """Outstanding lines divided by the weight; 0 with nothing outstanding: a small weight gets a turn, too."""
        return (self.outstanding + self.next_batch.turn_lines / 2) / self.weight if self.outstanding else 0.0
