"""The results of lines in memory; give the store the database of the other stores."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from app.domain.batch import Usage
from app.domain.lifecycle import RECORDING, Status
from app.domain.result import Result
from app.services.ports import Progress
from tests.fakes.database import BatchRow, MemoryDatabase


class MemoryResultStore:
    """Results in dictionaries by position."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self._db = database or MemoryDatabase()

    def record(self, results: Sequence[Result]) -> list[Progress]:
        with self._db.lock:
            progress = []
            for batch_id in dict.fromkeys(result.batch_id for result in results):
                row = self._db.batches.get(batch_id)
                if row is None or row.batch.status not in RECORDING or row.batch.sealed_at is not None:
                    continue
                new = [result for result in results if result.batch_id == batch_id]
                self._record_one(row, new)
                batch, per_task = row.batch, row.batch.lines_per_task
                for each in batch.sections:
                    if any(each.first_line <= one.position < each.end_line for one in new):
                        is_sent, is_done = each.next_task >= each.end_task, batch.recorded == batch.total
                        progress.append(Progress(batch_id, is_sent, is_done, each.outstanding(per_task), each.upstream))
            return progress

    def recorded(self, batch_id: str, first: int, end: int) -> set[int]:
        with self._db.lock:
            row = self._db.batches.get(batch_id)
            if row is None or not row.batch.sections:
                return set()
            return {position for position in self._db.results.get(batch_id, {}) if first <= position < end}

    def unrecorded(self, batch_ids: Sequence[str]) -> dict[str, list[int]]:
        with self._db.lock:
            found = {}
            for batch in (self._db.batches[each].batch for each in batch_ids if each in self._db.batches):
                recorded, per_task = self._db.results.get(batch.id, {}), batch.lines_per_task
                sent = [range(s.first_line, s.line_at(s.next_task, per_task)) for s in batch.sections]
                lacking = [position for some in sent for position in some if position not in recorded]
                if lacking and batch.status is Status.IN_PROGRESS:
                    found[batch.id] = lacking
            return found

    def read(self, batch_id: str) -> Iterator[tuple[int, bool, bytes, Usage]]:
        with self._db.lock:
            rows = sorted(self._db.results.get(batch_id, {}).items())
        for position, result in rows:
            yield position, result.ok, result.payload, result.usage

    def read_in(self, batch_id: str, order: Sequence[int]) -> Iterator[tuple[int, bool, bytes, Usage]]:
        with self._db.lock:
            rows = dict(self._db.results.get(batch_id, {}))
        for result in (rows[position] for position in order if position in rows):
            yield result.position, result.ok, result.payload, result.usage

    def clear(self, limit: int) -> int:
        # Batches that failed while finalizing keep theirs: an operator may want them.
        written = {Status.COMPLETED, Status.CANCELLED, Status.EXPIRED}
        with self._db.lock:
            doomed = [
                (rows, position)
                for batch_id, rows in self._db.results.items()
                if batch_id in self._db.batches and self._db.batches[batch_id].batch.status in written
                for position in rows
            ][:limit]
            for rows, position in doomed:
                del rows[position]
            return len(doomed)

    def _record_one(self, row: BatchRow, results: Sequence[Result]) -> None:
        rows = self._db.results.setdefault(row.batch.id, {})
        for result in results:
            if result.position in rows or not 0 <= result.position < row.batch.total:
                continue
            rows[result.position] = result
            batch, at = row.batch, result.position
            parts = tuple(s._replace(recorded=s.recorded + (s.first_line <= at < s.end_line)) for s in batch.sections)
            completed, failed = batch.completed + result.ok, batch.failed + (not result.ok)
            row.batch = replace(batch, completed=completed, failed=failed, sections=parts)
