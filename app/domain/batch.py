"""A batch, and what it says of itself while it runs."""

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
        """Input and output together; cached and reasoning tokens are parts of those."""
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
    """One reason why an input file was rejected; `line` is 1-based, None for the whole file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as its row is at one moment. Instants are seconds since 1970, UTC."""

    id: str
    tenant_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    created_at: float
    expires_at: float
    metadata: dict[str, str] | None = None
    output_lifetime_s: int | None = None
    model: str | None = None
    errors: tuple[LineError, ...] = ()

    # The plan, once validation made it.
    input_blob: str | None = None
    plan_blob: str | None = None
    lines_per_task: int = 1
    tasks_dispatched: int = 0

    total: int = 0
    completed: int = 0
    failed: int = 0
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
    # Set when finalizing began: from then on no result is taken.
    sealed_at: float | None = None
    finalize_tries: int = 0

    @property
    def recorded(self) -> int:
        """Lines that have a result."""
        return self.completed + self.failed

    @property
    def tasks(self) -> int:
        """Celery tasks that the whole batch is cut into."""
        return -(-self.total // self.lines_per_task)

    @property
    def lines_dispatched(self) -> int:
        """Lines whose task has been handed to the queue at least once."""
        return min(self.tasks_dispatched * self.lines_per_task, self.total)

    @property
    def lines_outstanding(self) -> int:
        """Lines handed out that have no result yet."""
        return max(self.lines_dispatched - self.recorded, 0)


class RunningTotal(NamedTuple):
    """Batches in progress together: how many, and their lines that are outstanding."""

    batches: int = 0
    lines_outstanding: int = 0
