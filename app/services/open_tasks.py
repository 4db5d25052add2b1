"""The line tasks that lack results and that nobody has."""

from collections.abc import Callable, Collection, Iterator, Sequence

from app.domain import ids
from app.domain.batch import InFlight
from app.services.ports import ResultStore

# The batches whose lines are read at once; the time for reading is looked at in between.
_BATCHES_AT_ONCE = 200


class OpenTasks:
    """Finds the tasks that lack results, and remembers them until the next look."""

    def __init__(self, results: ResultStore, upstreams: Collection[str]) -> None:
        self._results = results
        self._upstreams = upstreams
        # The missing tasks of each batch at the last look.
        self._missing: dict[str, list[int]] = {}

    def missing(
        self, batches: Sequence[InFlight], accounted: Collection[str], may_read: Callable[[], bool]
    ) -> Iterator[tuple[InFlight, list[int], bool]]:
        """Yield each batch, the unaccounted tasks that lack results, and whether the list is exact.

        After the time for reading, the list has only tasks that were missing at the last look.
        """
        before, self._missing = self._missing, {}
        for start in range(0, len(batches), _BATCHES_AT_ONCE):
            some = batches[start : start + _BATCHES_AT_ONCE]
            is_read = may_read()
            lines = self._results.unrecorded([batch.id for batch in some]) if is_read else {}
            for batch in some:
                tasks = self._tasks_of(batch, lines.get(batch.id, ())) if is_read else before.get(batch.id, [])
                missing = [number for number in tasks if ids.task_id(batch.id, number) not in accounted]
                self._missing[batch.id] = missing
                yield batch, missing, is_read

    def _tasks_of(self, batch: InFlight, lines: Collection[int]) -> list[int]:
        """Return the tasks of these lines; tasks for an upstream outside the configuration wait for its return."""
        found: list[int] = []
        for section in batch.sections:
            if section.upstream in self._upstreams:
                own = (line for line in lines if section.first_line <= line < section.end_line)
                tasks = (section.first_task + (line - section.first_line) // batch.lines_per_task for line in own)
                found += dict.fromkeys(tasks)
        return found
