"""The queue and the roster in memory."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.domain.errors import Unavailable
from app.domain.ids import task_id
from app.services.ports import REPORT_LIFETIME_S, Delivery, LineTask, Unacked, WorkerState
from tests.fakes.outside import FakeClock


@dataclass
class RecordingQueue:
    """A queue that keeps what it was sent; with `failure` set it raises that instead."""

    validated: list[str] = field(default_factory=list)
    refills: int = 0
    closed: list[str] = field(default_factory=list)
    finalized: list[str] = field(default_factory=list)
    opened_chords: list[tuple[str, int]] = field(default_factory=list)
    closed_chords: list[tuple[str, int, int]] = field(default_factory=list)
    published: list[tuple[str, int]] = field(default_factory=list)
    repeated: list[tuple[str, int]] = field(default_factory=list)
    alone: list[tuple[str, int]] = field(default_factory=list)
    # What was published, first time or again, by batch and number.
    tasks: dict[tuple[str, int], LineTask] = field(default_factory=dict)
    # Where it went.
    upstreams: dict[tuple[str, int], str] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    # The group ids of chords that the broker keeps, and what was taken when.
    kept_chords: set[str] = field(default_factory=set)
    taken: list[tuple[float, Unacked]] = field(default_factory=list)
    # The line tasks that wait; publishing adds to them, a test takes away from them.
    waiting: set[str] = field(default_factory=set)
    has_waiting_files: bool = False
    failure: Exception | None = None
    # Whose fences hold, None for no fences.
    roster: "MemoryRoster | None" = None

    def fail(self, message: str = "The broker does not answer.") -> None:
        """Let every call from now on raise Unavailable."""
        self.failure = Unavailable(message)

    def validate(self, batch_id: str) -> None:
        self._check()
        self.validated.append(batch_id)

    def refill(self) -> None:
        self._check()
        self.refills += 1

    def close(self, batch_id: str) -> None:
        self._check()
        self.closed.append(batch_id)

    def finalize(self, batch_id: str) -> None:
        self._check()
        self.finalized.append(batch_id)

    def has_file_messages(self) -> bool:
        self._check()
        return self.has_waiting_files

    def open_chord(self, batch_id: str, tasks: int) -> None:
        self._check()
        self.opened_chords.append((batch_id, tasks))

    def close_chord(self, batch_id: str, dispatched: int, tasks: int) -> None:
        self._check()
        self.closed_chords.append((batch_id, dispatched, tasks))

    def publish_lines(
        self, batch_id: str, upstream: str, tasks: Sequence[LineTask], delivery: Delivery, fence: str
    ) -> bool:
        self._check()
        if self.roster is not None and self.roster.fences([batch_id])[batch_id] != fence:
            return False
        self.upstreams.update({(batch_id, task.number): upstream for task in tasks})
        sent = {Delivery.FIRST: self.published, Delivery.AGAIN: self.repeated, Delivery.ALONE: self.alone}[delivery]
        sent.extend((batch_id, task.number) for task in tasks)
        self.tasks.update({(batch_id, task.number): task for task in tasks})
        self.waiting.update(task_id(batch_id, task.number) for task in tasks)
        return True

    def queued_tasks(self) -> set[str]:
        self._check()
        return set(self.waiting)

    def drop_unknown_queues(self) -> None:
        self._check()

    def forget(self, batch_id: str) -> None:
        self._check()
        self.forgotten.append(batch_id)

    def chords(self) -> set[str]:
        self._check()
        return set(self.kept_chords)

    def drop_chords(self, group_ids: Collection[str]) -> None:
        self._check()
        self.kept_chords -= set(group_ids)

    def unacked(self, limit: int) -> list[Unacked]:
        self._check()
        return self.taken[:limit]

    def drop_unacked(self, tags: Sequence[str]) -> None:
        self._check()
        self.taken = [message for message in self.taken if message.tag not in tags]

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


class MemoryRoster:
    """Workers, missing tasks and locks in dictionaries, by a clock that a test moves."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self._clock = clock or FakeClock()
        self._reports: dict[str, tuple[float, WorkerState]] = {}
        self._losses: dict[str, Counter[int]] = {}
        self._missing: dict[str, dict[int, str]] = {}
        self._looks = 0
        self.fences_of: dict[str, str] = {}
        self._locked_until: dict[str, float] = {}

    def report(self, state: WorkerState) -> None:
        self._reports[state.name] = (self._clock.monotonic(), state)

    def leave(self, name: str) -> None:
        self._reports.pop(name, None)

    def count_losses(self, batch_id: str, task_numbers: Sequence[int]) -> None:
        self._losses.setdefault(batch_id, Counter()).update(task_numbers)

    def losses(self, batch_id: str) -> dict[int, int]:
        return dict(self._losses.get(batch_id, {}))

    def batches_with_losses(self) -> set[str]:
        return self._losses.keys() | {batch_id for batch_id, missing in self._missing.items() if missing}

    def forget_losses(self, batch_id: str) -> None:
        self._losses.pop(batch_id, None)
        self._missing.pop(batch_id, None)

    def workers(self) -> list[WorkerState]:
        now = self._clock.monotonic()
        return [state for reported_at, state in self._reports.values() if now - reported_at < REPORT_LIFETIME_S]

    def missing_since(self, missing: Mapping[str, Collection[int]]) -> dict[str, dict[int, str]]:
        self._looks += 1
        for batch_id, numbers in missing.items():
            known = self._missing.get(batch_id, {})
            self._missing[batch_id] = {number: known.get(number, f"look-{self._looks}") for number in numbers}
        return {batch_id: dict(self._missing[batch_id]) for batch_id, numbers in missing.items() if numbers}

    def not_missing(self, numbers: Mapping[str, Collection[int]]) -> None:
        for batch_id, found in numbers.items():
            for number in found:
                self._missing.get(batch_id, {}).pop(number, None)

    def fence(self, batch_ids: Collection[str]) -> None:
        self._looks += 1
        self.fences_of |= dict.fromkeys(batch_ids, f"fence-{self._looks}")

    def fences(self, batch_ids: Sequence[str]) -> dict[str, str]:
        return {batch_id: self.fences_of.get(batch_id, "") for batch_id in batch_ids}

    def fenced_batches(self) -> set[str]:
        return set(self.fences_of)

    def forget_fences(self, batch_ids: Collection[str]) -> None:
        for batch_id in batch_ids:
            self.fences_of.pop(batch_id, None)

    @contextmanager
    def lock(self, name: str, seconds: float) -> Iterator[bool]:
        now = self._clock.monotonic()
        if self._locked_until.get(name, -1.0) > now:
            yield False
            return
        mine = self._locked_until[name] = now + seconds
        try:
            yield True
        finally:
            if self._locked_until.get(name) == mine:
                del self._locked_until[name]
