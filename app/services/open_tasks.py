"""The line tasks that may lack results, as far as this process has counted.

A recorded result stays while its batch runs. A task therefore needs to be found complete only once, and a look counts
only the results of tasks that have left their worker since the last look.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.domain import ids
from app.domain.batch import InFlight, Section
from app.services.ports import ResultStore

# Tasks with more than this many lines of other tasks in between are counted as two spans.
_GAP_LINES = 1_000
# Tasks handed out since the last look are taken in by this many: most tasks of an old batch are done, and a single
# count proves the tasks done.
_TASKS_AT_ONCE = 1_000
# For fewer tasks a count would cost more than it can save.
_FEW_TASKS = 64


class _Span(NamedTuple):
    """Neighbouring tasks of one section, and the positions from the first task to the last."""

    tasks: list[int]
    first: int
    end: int


@dataclass(slots=True)
class _Known:
    """The state of a batch at the last look."""

    # By section, the first task that was not taken in yet.
    cursors: list[int]
    # The ids of tasks that may lack results, by number.
    open: dict[int, str] = field(default_factory=dict)
    # Open tasks that lacked results when counted, and the batch's number of results just before the count.
    lacking: set[int] = field(default_factory=set)
    recorded: int = -1


class OpenTasks:
    """Remembers the finished tasks between two looks."""

    def __init__(self, results: ResultStore, upstreams: Collection[str]) -> None:
        self._results = results
        self._upstreams = upstreams
        self._known: dict[str, _Known] = {}

    def missing(
        self, batches: Iterable[InFlight], accounted: Collection[str], may_count: Callable[[], bool]
    ) -> Iterator[tuple[InFlight, list[int], bool]]:
        """Yield each batch, the unaccounted tasks that lack results, and whether the list is exact.

        After the time for counting, the list has only tasks known before.
        """
        known: dict[str, _Known] = {}
        before, self._known = self._known, known
        for batch in batches:
            of_batch = before.get(batch.id) or _Known([section.first_task for section in batch.sections])
            known[batch.id] = of_batch
            yield batch, *self._missing_of(batch, of_batch, accounted, may_count)

    def _missing_of(
        self, batch: InFlight, known: _Known, accounted: Collection[str], may_count: Callable[[], bool]
    ) -> tuple[list[int], bool]:
        if self._has_more(batch, known):
            if not may_count():
                return _unaccounted(known, known.lacking, accounted), False
            self._take_in(batch, known)
        missing = _unaccounted(known, known.open, accounted)
        if batch.recorded == known.recorded and known.lacking.issuperset(missing):
            return missing, True
        if missing and not may_count():
            return _unaccounted(known, known.lacking, accounted), False
        if missing:
            self._count(batch, known, missing)
        return [number for number in missing if number in known.open], True

    def _has_more(self, batch: InFlight, known: _Known) -> bool:
        return any(cursor < section.next_task for cursor, section in self._following(batch, known))

    def _following(self, batch: InFlight, known: _Known) -> Iterator[tuple[int, Section]]:
        # Tasks for an upstream outside the configuration wait for its return.
        pairs = zip(known.cursors, batch.sections, strict=True)
        return ((cursor, section) for cursor, section in pairs if section.upstream in self._upstreams)

    def _take_in(self, batch: InFlight, known: _Known) -> None:
        """Note the tasks handed out since the last look, except finished tasks."""
        for number, section in enumerate(batch.sections):
            if section.upstream not in self._upstreams:
                continue
            for start in range(known.cursors[number], section.next_task, _TASKS_AT_ONCE):
                end = min(start + _TASKS_AT_ONCE, section.next_task)
                if not self._is_done(batch, section, start, end):
                    known.open |= {task: ids.task_id(batch.id, task) for task in range(start, end)}
                known.cursors[number] = end

    def _is_done(self, batch: InFlight, section: Section, start: int, end: int) -> bool:
        if end - start < _FEW_TASKS:
            return False
        first, last = (section.line_at(task, batch.lines_per_task) for task in (start, end))
        return self._results.count(batch.id, first, last) == last - first

    def _count(self, batch: InFlight, known: _Known, missing: Sequence[int]) -> None:
        """Find out which of the `missing` tasks lack results, and forget the rest."""
        known.lacking = set()
        for span in _spans(batch, missing):
            lacking = self._lacking(batch, span)
            known.lacking.update(lacking)
            for task in set(span.tasks) - lacking:
                del known.open[task]
        # The batch may have more results by now, but not fewer: an unchanged number means that no result has come.
        known.recorded = batch.recorded

    def _lacking(self, batch: InFlight, span: _Span) -> set[int]:
        if self._results.count(batch.id, span.first, span.end) == span.end - span.first:
            return set()
        if len(span.tasks) == 1:
            return set(span.tasks)
        recorded = self._results.recorded(batch.id, span.first, span.end)
        return {task for task in span.tasks if not recorded.issuperset(batch.lines_of(task))}


def _unaccounted(known: _Known, tasks: Iterable[int], accounted: Collection[str]) -> list[int]:
    return [task for task in tasks if known.open[task] not in accounted]


def _spans(batch: InFlight, tasks: Iterable[int]) -> list[_Span]:
    """Return the tasks in spans of positions with little in between."""
    spans: list[_Span] = []
    for task in sorted(tasks):
        lines = batch.lines_of(task)
        last = spans[-1] if spans else None
        if last and lines.start - last.end <= _GAP_LINES:
            spans[-1] = last._replace(tasks=[*last.tasks, task], end=lines.stop)
        else:
            spans.append(_Span([task], lines.start, lines.stop))
    return spans
