"""Turns at checking and writing files in a process, in a fair order; waiting work holds no thread."""

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import structlog

from app.domain.errors import Unavailable
from app.domain.file_work import FileOrder, Work

log = structlog.get_logger()

# Threads of an interpreter share a core: more work at once would end no sooner.
_AT_ONCE = 4
# Two, so that a check waiting for a slow disk leaves the core to the other.
_LARGE_CHECKS = 2
# The last turn is for small work.
_LARGE_WRITES = 1
# In every MiB, large work makes way for urgent work for at most this long, and so goes on however much of it comes.
_LONGEST_REST_S = 0.25


class Turn(NamedTuple):
    """The kind of work, and its batch."""

    kind: str
    batch_id: str


class Task(NamedTuple):
    """How a kind of work is looked up and done."""

    # Returns None if there is no work to do.
    look: Callable[[str], Work | None]
    # Takes the batch and a function to call between pieces; in the call, large work makes way for urgent work.
    run: Callable[[str, Callable[[], None]], object]


class FileTurns:
    """Does file work: as much as allowed at once, the rest in turn.

    Args:
        tasks: how to do a kind of work, by kind.
        is_ending: whether the process ends; waiting work is then left to upkeep, which asks again.
    """

    def __init__(self, tasks: Mapping[str, Task], is_ending: Callable[[], bool]) -> None:
        self._tasks = tasks
        self._is_ending = is_ending
        self._order: FileOrder[Turn] = FileOrder(_AT_ONCE, _LARGE_CHECKS, _LARGE_WRITES)
        self._changed = threading.Condition()

    def take(self, turn: Turn) -> None:
        """Do the work in this thread, or leave it to a thread with a turn and return at once if all turns are taken."""
        with self._changed:
            # Upkeep asks repeatedly for waiting work.
            is_known = self._order.has(turn)
        work = None if is_known else self._look(turn)
        with self._changed:
            if work is not None:
                self._order.add(turn, work, time.monotonic())
        while (due := self._begin()) is not None:
            turn, work = due
            try:
                self._tasks[turn.kind].run(turn.batch_id, _go_on if work.is_small else partial(self._rest, work))
            except Unavailable as fault:
                _tell_put_off(turn, fault)
            except Exception:
                # The thread must go on with waiting work, despite the failure.
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

    def _rest(self, work: Work) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._order.is_urgent_running(work), _LONGEST_REST_S)


def _go_on() -> None:
    """Do nothing: small work makes way for no other work."""


def _tell_put_off(turn: Turn, fault: Unavailable) -> None:
    # Log a line without a traceback: upkeep asks again every few seconds while the database or the storage is away.
    log.warning("file_work.put_off", kind=turn.kind, batch_id=turn.batch_id, error=str(fault))
