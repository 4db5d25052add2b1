"""A broker whose messages are delivered, repeated, reordered or lost as the machine says, and what lives in it."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import NamedTuple

from app.domain import ids
from app.services.ports import Delivery, LineTask, Unacked
from tests.fakes.broker import MemoryRoster
from tests.fakes.outside import FakeClock


class ControlMessage(NamedTuple):
    kind: str
    batch_id: str = ""


@dataclass(frozen=True)
class LineMessage:
    """A line task; `task` is None for the closing part of a chord, which runs nothing."""

    batch_id: str
    number: int
    task: LineTask | None
    delivery: Delivery = Delivery.FIRST
    # Whether upkeep sent it, whatever it says of itself.
    is_repair: bool = False

    @property
    def id(self) -> str:
        return ids.task_id(self.batch_id, self.number)


@dataclass
class Chord:
    """Calls back once when as many parts returned as its size says; each part counts once."""

    size: int | None = None
    returned: set[int] = field(default_factory=set)


class Broker:
    """`Queue`, as Celery over Redis behaves seen from outside."""

    def __init__(self) -> None:
        self.control: list[ControlMessage] = []
        self.lines: list[LineMessage] = []
        # By the batch's id.
        self.kept: dict[str, Chord] = {}
        # Told of tasks before they are sent; returns whether upkeep sends them.
        self.on_publish: Callable[[str, Sequence[LineTask]], bool] = lambda *_: False
        # The fence of a batch as it is now.
        self.fence_of: Callable[[str], str] = lambda _: ""

    def validate(self, batch_id: str) -> None:
        self.control.append(ControlMessage("validate", batch_id))

    def refill(self) -> None:
        self.control.append(ControlMessage("refill"))

    def close(self, batch_id: str) -> None:
        self.control.append(ControlMessage("close", batch_id))

    def finalize(self, batch_id: str) -> None:
        self.control.append(ControlMessage("finalize", batch_id))

    def has_file_messages(self) -> bool:
        return any(message.kind in ("validate", "finalize") for message in self.control)

    def open_chord(self, batch_id: str, tasks: int) -> None:
        chord = self.kept.setdefault(batch_id, Chord())
        if chord.size is None:
            chord.size = tasks

    def close_chord(self, batch_id: str, dispatched: int, tasks: int) -> None:
        self.kept.setdefault(batch_id, Chord()).size = dispatched + 1
        self.lines.append(LineMessage(batch_id, tasks, None))

    def publish_lines(
        self, batch_id: str, upstream: str, tasks: Sequence[LineTask], delivery: Delivery, fence: str
    ) -> bool:
        if self.fence_of(batch_id) != fence:
            return False
        is_repair = self.on_publish(batch_id, tasks)
        self.lines.extend(LineMessage(batch_id, task.number, task, delivery, is_repair) for task in tasks)
        return True

    def queued_tasks(self) -> set[str]:
        return {message.id for message in self.lines}

    def drop_unknown_queues(self) -> None: ...

    def forget(self, batch_id: str) -> None:
        self.kept.pop(batch_id, None)

    def chords(self) -> set[str]:
        return {ids.group_id(batch_id) for batch_id in self.kept}

    def drop_chords(self, group_ids: Collection[str]) -> None:
        self.kept = {
            batch_id: chord for batch_id, chord in self.kept.items() if ids.group_id(batch_id) not in group_ids
        }

    def unacked(self, limit: int, before: float | None = None) -> list[Unacked]:
        # The machine itself says what is delivered again: nothing more is to be swept.
        return []

    def drop_unacked(self, tags: Sequence[str]) -> None: ...

    def part_returned(self, message: LineMessage) -> None:
        """Count a task that ended for its chord."""
        chord = self.kept.setdefault(message.batch_id, Chord())
        if message.number in chord.returned:
            return
        chord.returned.add(message.number)
        if chord.size == len(chord.returned):
            chord.size = None
            self.finalize(message.batch_id)

    def redelivered(self, message: LineMessage) -> LineMessage:
        """Return the message as Celery delivers it again: its worker looks first which lines have a result."""
        return replace(message, delivery=Delivery.AGAIN) if message.delivery is Delivery.FIRST else message

    def empty(self) -> None:
        """Lose everything, as a broker does that was flushed."""
        self.control.clear()
        self.lines.clear()
        self.kept.clear()


class ModelRoster(MemoryRoster):
    """A roster whose locks are given back in words, so that a process which died does not."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.clock = clock
        self._taken_until: dict[str, float] = {}

    def lock(self, name: str, seconds: float) -> AbstractContextManager[bool]:
        return _Lock(self, name, seconds)

    def empty(self) -> None:
        """Lose everything: it lives in the broker."""
        ModelRoster.__init__(self, self.clock)

    def take(self, name: str, seconds: float) -> float | None:
        """Take a lock; return until when, None where another has it."""
        now = self.clock.monotonic()
        if self._taken_until.get(name, -1.0) > now:
            return None
        self._taken_until[name] = now + seconds
        return self._taken_until[name]

    def give_back(self, name: str, until: float) -> None:
        if self._taken_until.get(name) == until:
            del self._taken_until[name]


class _Lock:
    def __init__(self, roster: ModelRoster, name: str, seconds: float) -> None:
        self._roster = roster
        self._name = name
        self._seconds = seconds
        self._until: float | None = None

    def __enter__(self) -> bool:
        self._until = self._roster.take(self._name, self._seconds)
        return self._until is not None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._until is not None:
            self._roster.give_back(self._name, self._until)
