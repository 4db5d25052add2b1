"""Turns at checking and writing files in one process, in a fair order; work that waits keeps no thread."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from app.domain.errors import Unavailable
from app.domain.file_work import FileOrder, Work

log = structlog.get_logger()

# Threads of one interpreter share a core: more at once would end no sooner.
_AT_ONCE = 4
# The other turns are for small work. Two, so that one that waits for a slow disk leaves the core to the other.
_LARGE_AT_ONCE = 2
# Large work makes way for so long in each MiB that it goes over, and so goes on whatever small work comes.
_LONGEST_REST_S = 0.25


class Turn(NamedTuple):
    """What is done, for which batch."""

    kind: str
    batch_id: str


class Task(NamedTuple):
    """How one kind of work is looked up and done."""

    # Returns None where there is nothing to do.
    look: Callable[[str], Work | None]
    # Given the batch and a function to be called between pieces, in which large work makes way for small.
    run: Callable[[str, Callable[[], None]], object]


class FileTurns:
    """Does the work that it is given, some at once and the rest after it.

    Args:
        tasks: how each kind of work is done.
        is_ending: whether the process ends; work that waits by then is left to upkeep, which asks again.
    """

    def __init__(self, tasks: Mapping[str, Task], is_ending: Callable[[], bool]) -> None:
        self._tasks = tasks
        self._is_ending = is_ending
        self._order: FileOrder[Turn] = FileOrder(_AT_ONCE, _LARGE_AT_ONCE)
        self._changed = threading.Condition()

    def take(self, turn: Turn) -> None:
        """Have it done by this thread, or by one that has a turn: where all turns are taken this returns at once."""
        with self._changed:
            # Upkeep asks again for work that waits.
            is_known = self._order.has(turn)
        work = None if is_known else self._look(turn)
        with self._changed:
            if work is not None:
                self._order.add(turn, work, time.monotonic())
        while (due := self._begin()) is not None:
            turn, work = due
            try:
                self._tasks[turn.kind].run(turn.batch_id, _go_on if work.is_small else self._rest)
            except Unavailable as fault:
                _tell_put_off(turn, fault)
            except Exception:
                # The thread has the turn for work that waits, whatever became of this one.
                log.exception("file_work.broke", kind=turn.kind, batch_id=turn.batch_id)
            finally:
                with self._changed:
                    self._order.end(turn)
                    self._changed.notify_all()

    def _look(self, turn: Turn) -> Work | None:
        try:
            return self._tasks[turn.kind].look(turn.batch_id)
        except Unavailable as fault:
            _tell_put_off(turn, fault)
            return None

    def _begin(self) -> tuple[Turn, Work] | None:
        with self._changed:
            return None if self._is_ending() else self._order.begin()

    def _rest(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._order.is_small_running(), _LONGEST_REST_S)


def _go_on() -> None:
    """Make way for nobody."""


def _tell_put_off(turn: Turn, fault: Unavailable) -> None:
    # One line and no trace: upkeep asks again every few seconds, for as long as the database or the storage is away.
    log.warning("file_work.put_off", kind=turn.kind, batch_id=turn.batch_id, error=str(fault))
