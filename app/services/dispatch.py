"""Dispatch: keep a window of lines before the workers, shared fairly among the running batches."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import structlog

from app.domain.batch import Batch, InFlight
from app.domain.errors import StorageFull, Unavailable
from app.domain.fairness import Weights
from app.domain.lifecycle import Status
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import BatchStore, Clock, Delivery, LineTask, Move, Queue, Roster
from app.services.sharing import LaneLook, SharingService

log = structlog.get_logger()

# The messages wait in one queue. A batch that always went first would wait less and get more done than its part of the
# window: 3 to 1 came out as 2.4 to 1. So a refill goes out in pieces, with the batches of a piece in any order.
_PIECES = 4
# Longer than a refill takes; nobody waits longer for a holder that died.
_LOCK_S = 10.0
# A move of a cursor may wait for seconds, for example for the lock of a worker that stands still. Tasks moved before
# are still sent for a while, but not once repair may have found the tasks lost: the queue would refuse late tasks.
_MOVE_WITHIN_S = 1.0
# Cursors moved in one transaction: on SQLite, other writers wait for the transaction.
_MOVES_AT_ONCE = 50
_SEND_WITHIN_S = 3.0
# No upstream's window begins later than this: a refill must end within its lock.
_BEGIN_WITHIN_S = 3.0


class DispatchService:
    """Hands the lines of running batches to the queue, and stops handing them out."""

    def __init__(
        self,
        batches: BatchStore,
        queue: Queue,
        roster: Roster,
        clock: Clock,
        weights: Weights | None = None,
        upstreams: Sequence[str] = (DEFAULT_UPSTREAM,),
    ) -> None:
        self._batches = batches
        self._queue = queue
        self._roster = roster
        self._clock = clock
        self._sharing = SharingService(batches, roster, clock, weights or Weights(), upstreams)
        # Where the next refill begins: with the first upstream that the last refill had no time for.
        self._first_lane = 0

    def refill(self) -> int:
        """Publish as many tasks as the windows have room for; return their number."""
        with self._roster.lock("dispatch", _LOCK_S) as is_held:
            if not is_held:
                return 0
            began_at = self._clock.monotonic()
            seen = self._sharing.look()
            sent = 0
            first, self._first_lane = self._first_lane, 0
            for number in (*range(first, len(seen.lanes)), *range(first)):
                if self._is_past(began_at, _BEGIN_WITHIN_S):
                    self._first_lane = number
                    break
                lane = seen.lanes[number]
                tasks, is_cut_short = self._fill(lane, seen.batches)
                sent += tasks
                if is_cut_short:
                    # Each further upstream could wait as long for the database, and together they could outlast the
                    # lock.
                    break
            return sent

    def close(self, batch_id: str) -> None:
        """End a cancelled batch, or a batch past its window, once the published tasks have returned."""
        batch = self._batches.find(batch_id)
        if batch is None or batch.status not in (Status.CANCELLING, Status.EXPIRING):
            return
        if batch.lines_outstanding == 0:
            self._queue.finalize(batch_id)
        else:
            self._queue.close_chord(batch_id, batch.tasks_dispatched, batch.tasks)

    def _fill(self, lane: LaneLook, batches: Sequence[Batch]) -> tuple[int, bool]:
        """Fill the window of one upstream; return the number of tasks and whether the database was away."""
        turns = [turn.batch_id for turn in lane.sharing.turns() for _ in range(turn.tasks)]
        tasks = Counter(turns)
        parts = {
            batch.id: _Part(batch, section.next_task)
            for batch in batches
            for section in batch.sections
            if section.upstream == lane.upstream and batch.id in tasks
        }
        # Read the fences before the cursors move: until then repair does not miss the tasks.
        fences = self._roster.fences(list(parts))
        decided_at = self._clock.monotonic()
        moved, is_cut_short = self._move(parts, tasks, decided_at)
        pieces = _in_pieces([batch_id for batch_id in turns if batch_id in moved], lane.sharing.new)
        self._publish(lane.upstream, moved, pieces, decided_at, fences)
        return sum(tasks[batch_id] for batch_id in moved), is_cut_short

    def _move(
        self, parts: Mapping[str, "_Part"], tasks: Counter[str], decided_at: float
    ) -> tuple[dict[str, "_Part"], bool]:
        """Count `tasks` of each batch as handed out.

        Returns the batches counted, by id, and whether further batches were not tried because the database is away.
        """
        # The cursor is committed before the messages go: a crash in between leaves tasks for upkeep to find lost, never
        # messages for tasks unknown to the database.
        moved: dict[str, _Part] = {}
        moves = [Move(batch_id, part.next_task, part.next_task + tasks[batch_id]) for batch_id, part in parts.items()]
        for start in range(0, len(moves) if len(moves) > 1 else 0, _MOVES_AT_ONCE):
            if self._is_past(decided_at, _MOVE_WITHIN_S):
                break
            try:
                found = self._batches.move_free_cursors(moves[start : start + _MOVES_AT_ONCE])
            except (StorageFull, Unavailable):
                log.warning("dispatch.failed", batches=len(moves), exc_info=True)
                return moved, True
            moved |= {batch_id: parts[batch_id] for batch_id in found}
        # The rest is held by others for the moment, or can't be moved.
        for batch_id, part in parts.items():
            if batch_id in moved:
                continue
            if self._is_past(decided_at, _MOVE_WITHIN_S):
                break
            count = tasks[batch_id]
            try:
                if self._batches.move_cursor(batch_id, part.next_task, part.next_task + count):
                    moved[batch_id] = part
            except (StorageFull, Unavailable):
                # Moved tasks must be sent now, and each further batch could wait as long for the database.
                log.warning("dispatch.failed", batch_id=batch_id, tasks=count, exc_info=True)
                return moved, True
        return moved, False

    def _publish(
        self,
        upstream: str,
        parts: Mapping[str, "_Part"],
        pieces: Iterable[tuple[str, int]],
        decided_at: float,
        fences: Mapping[str, str],
    ) -> None:
        """Send the next tasks of each batch, piece by piece."""
        cursors = {batch_id: part.next_task for batch_id, part in parts.items()}
        opened: set[str] = set()
        unsent: set[str] = set()
        for batch_id, count in pieces:
            batch, first = parts[batch_id].batch, cursors[batch_id]
            cursors[batch_id] += count
            if batch_id in unsent:
                continue
            if self._is_past(decided_at, _SEND_WITHIN_S):
                log.warning("dispatch.late", upstream=upstream, batches=len(parts))
                return
            try:
                if batch.tasks_dispatched == 0 and batch_id not in opened:
                    self._queue.open_chord(batch_id, batch.tasks)
                    opened.add(batch_id)
                tasks = line_tasks(batch, range(first, first + count))
                if not self._queue.publish_lines(batch_id, upstream, tasks, Delivery.FIRST, fences[batch_id]):
                    unsent.add(batch_id)
                    log.warning("dispatch.fenced", batch_id=batch_id, tasks=count)
            except Unavailable:
                unsent.add(batch_id)
                log.warning("dispatch.failed", batch_id=batch_id, tasks=count, exc_info=True)

    def _is_past(self, since: float, seconds: float) -> bool:
        return self._clock.monotonic() - since > seconds


class _Part(NamedTuple):
    """A batch, and its next task for an upstream."""

    batch: Batch
    next_task: int


def line_tasks(batch: Batch | InFlight, numbers: Iterable[int]) -> list[LineTask]:
    """Return the tasks with these numbers."""
    sections, per_task = batch.sections, batch.lines_per_task
    tasks = []
    for number in numbers:
        section = next(section for section in sections if number < section.end_task)
        tasks.append(LineTask(number, section.line_at(number, per_task), section.line_at(number + 1, per_task)))
    return tasks


def _in_pieces(turns: list[str], new: set[str]) -> Iterator[tuple[str, int]]:
    """Yield batches with the numbers of tasks to send together; a batch comes again in each piece of the turns."""
    size = max(-(-len(turns) // _PIECES), 1)
    for start in range(0, len(turns), size):
        counts = Counter(turns[start : start + size])
        others = [batch_id for batch_id in counts if batch_id not in new]
        random.shuffle(others)
        for batch_id in (*(each for each in counts if each in new), *others):
            yield batch_id, counts[batch_id]
