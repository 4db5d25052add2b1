"""A batch, and its state while it runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.domain.lifecycle import Status


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the upstream reported, summed over lines."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together; cached and reasoning tokens are parts of these."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class LineError:
    """A reason for the rejection of an input file; `line` is 1-based, None for the whole file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


def input_missing(batch: "Batch") -> LineError:
    """Return the reason for a batch whose input's bytes are gone from the storage."""
    message = f"The bytes of file {batch.input_file_id} are missing in the storage: upload the file again."
    return LineError("input_missing", message, param="file_id")


class Section(NamedTuple):
    """The part of a batch for one upstream: its tasks and its lines, both up to and without their end."""

    upstream: str
    first_task: int
    end_task: int
    # Positions in the plan.
    first_line: int
    end_line: int
    # The first task that was never handed to the queue.
    next_task: int
    # Lines with a result.
    recorded: int = 0

    def line_at(self, task: int, per_task: int) -> int:
        """Return the position of a task's first line, or the end behind the section's last line."""
        return min(self.first_line + (task - self.first_task) * per_task, self.end_line)

    def dispatched(self, per_task: int) -> int:
        """Return how many of the section's lines have been handed to the queue."""
        return self.line_at(self.next_task, per_task) - self.first_line

    def outstanding(self, per_task: int) -> int:
        """Return how many lines were handed out and have no result yet."""
        return max(self.dispatched(per_task) - self.recorded, 0)

    def waiting(self, per_task: int) -> int:
        """Return how many lines were never handed out."""
        return self.end_line - self.line_at(self.next_task, per_task)

    @property
    def unrecorded(self) -> int:
        """How many of the section's lines have no result yet."""
        return self.end_line - self.first_line - self.recorded


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch, as its row is at one moment. Instants are seconds since 1970, UTC."""

    id: str
    tenant_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    created_at: float
    expires_at: float
    # The key of the request that created the batch; None for a batch of an older version.
    api_key_id: str | None = None
    metadata: dict[str, str] | None = None
    output_lifetime_s: int | None = None
    model: str | None = None
    errors: tuple[LineError, ...] = ()

    # The input, and the plan once validation made the plan.
    input_blob: str | None = None
    plan_blob: str | None = None
    # Tells the order of the plan's lines, should the plan be lost; None for a batch of an older version.
    plan_digest: str | None = None
    lines_per_task: int = 1
    # The batch's tasks by upstream, in the order of the plan, from the plan's acceptance to the end of the batch.
    sections: tuple[Section, ...] = ()

    total: int = 0
    completed: int = 0
    failed: int = 0
    # Set when the batch ends.
    usage: Usage = field(default_factory=Usage)

    output_file_id: str | None = None
    error_file_id: str | None = None

    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    # Set when finalizing began: from then on no result is accepted.
    sealed_at: float | None = None
    finalize_tries: int = 0
    # The process that validates or finalizes the batch, or did until its lease ran out.
    lease_owner: str | None = None

    @property
    def recorded(self) -> int:
        """Lines with a result."""
        return self.completed + self.failed

    @property
    def tasks(self) -> int:
        """The number of Celery tasks in the whole batch."""
        return self.sections[-1].end_task if self.sections else 0

    @property
    def tasks_dispatched(self) -> int:
        """Tasks handed to the queue at least once."""
        return sum(section.next_task - section.first_task for section in self.sections)

    @property
    def lines_outstanding(self) -> int:
        """Lines handed out that have no result yet."""
        return sum(section.outstanding(self.lines_per_task) for section in self.sections)


class InFlight(NamedTuple):
    """The facts that repair needs about a batch with lines outstanding."""

    id: str
    lines_per_task: int
    # The number of Celery tasks in the whole batch.
    tasks: int
    # The sections with lines outstanding, in the order of the plan.
    sections: tuple[Section, ...]


def cut_into_sections(lines: Sequence[tuple[str, int]], per_task: int) -> tuple[Section, ...]:
    """Return the sections of a plan from its upstreams and their numbers of lines, in the order of the plan."""
    sections: list[Section] = []
    task = line = 0
    for upstream, count in lines:
        end_task, end_line = task - (-count // per_task), line + count
        sections.append(Section(upstream, task, end_task, line, end_line, next_task=task))
        task, line = end_task, end_line
    return tuple(sections)


class RunningTotal(NamedTuple):
    """Batches with lines outstanding: their number, and the sum of these lines."""

    batches: int = 0
    lines_outstanding: int = 0
