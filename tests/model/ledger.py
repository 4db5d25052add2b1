"""The simple model: the last look at each batch and line decides which changes the next look may find."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.domain.batch import Batch, Usage
from app.domain.lifecycle import RECORDING, TERMINAL, TRANSITIONS, Status
from app.domain.result import Result, line_request_id
from app.services.ports import BatchStore, Blobs, FileStore, LineTask, ResultStore
from tests.model.workers import custom_id

_NEXT = {(before, after) for (before, _), after in TRANSITIONS.items()}
_WITH_FILES = TERMINAL - {Status.FAILED}
_TENANT = "tenant"
_MANY = 1_000


@dataclass
class Seen:
    """A batch at the last look, and each recorded line at the first look that found the line."""

    batch: Batch
    lines: dict[int, Result] = field(default_factory=dict)


class Ledger:
    """Looks at the stores after each step that writes, and checks the changes."""

    def __init__(self, batches: BatchStore, results: ResultStore, files: FileStore, blobs: Blobs) -> None:
        self.seen: dict[str, Seen] = {}
        self._batches = batches
        self._results = results
        self._files = files
        self._blobs = blobs

    def of(self, *statuses: Status) -> list[Batch]:
        """Return the batches with one of the given statuses at the last look."""
        return [seen.batch for seen in self.seen.values() if seen.batch.status in statuses]

    def look(self, step: str, offered: Sequence[Result]) -> None:
        """Check the changes since the last look; a new result must be among the `offered` results."""
        for found in self._batches.page(_TENANT, after=None, limit=_MANY):
            # The owner of the lease is left out: the lease of an ended batch may be released later.
            batch = replace(found, lease_owner=None)
            if batch.id not in self.seen:
                assert batch.status is Status.VALIDATING
                self.seen[batch.id] = Seen(batch)
            seen = self.seen[batch.id]
            if seen.batch != batch:
                _check_move(seen.batch, batch)
            if step in ("record", "clear", "finish", "seal", "advance"):
                self._check_lines(seen, batch, offered)
            before, seen.batch = seen.batch.status, batch
            if before is not batch.status and batch.status in _WITH_FILES:
                self.check_files(seen)

    def check_published(self, batch_id: str, tasks: Sequence[LineTask]) -> None:
        """Check that the database knew of the tasks before the broker did."""
        batch = self._batches.find(batch_id)
        assert batch is not None
        for task in tasks:
            assert task.number < batch.tasks_dispatched
            assert 0 <= task.first < task.end <= batch.total

    def check_files(self, seen: Seen) -> None:
        """Check that output and error file together have each line once, in order, with the recorded bytes."""
        batch = seen.batch
        output, errors = self._lines_of(batch, batch.output_file_id), self._lines_of(batch, batch.error_file_id)
        assert [position for position, _ in output] == [
            place for place, result in sorted(seen.lines.items()) if result.ok
        ]
        assert [position for position, _ in output] == sorted(position for position, _ in output)
        assert [position for position, _ in errors] == sorted(position for position, _ in errors)
        assert sorted([position for position, _ in [*output, *errors]]) == list(range(batch.total))
        for position, line in [*output, *errors]:
            if position in seen.lines:
                assert line == seen.lines[position].payload
            else:
                code = "batch_cancelled" if batch.status is Status.CANCELLED else "batch_expired"
                assert json.loads(line)["error"]["code"] == code
        unrun = batch.total - len(seen.lines)
        assert (batch.completed, batch.failed) == (len(output), len(errors) - unrun)
        assert unrun == 0 or batch.status is not Status.COMPLETED
        assert batch.usage == sum((result.usage for result in seen.lines.values()), Usage())

    def _lines_of(self, batch: Batch, file_id: str | None) -> list[tuple[int, bytes]]:
        if file_id is None:
            return []
        ended_at = batch.completed_at or batch.cancelled_at or batch.expired_at
        assert ended_at is not None
        file = self._files.get(_TENANT, file_id, ended_at)
        assert file is not None
        data = b"".join(self._blobs.stream(file.blob))
        assert len(data) == file.bytes
        assert data.endswith(b"\n")
        by_id = {line_request_id(batch.id, position): position for position in range(batch.total)}
        lines = [(by_id[json.loads(line)["id"]], line) for line in data.splitlines()]
        for position, line in lines:
            assert json.loads(line)["custom_id"] == custom_id(position)
        return lines

    def _check_lines(self, seen: Seen, batch: Batch, offered: Sequence[Result]) -> None:
        rows = {
            position: Result(batch.id, position, ok, payload, usage)
            for position, ok, payload, usage in self._results.read(batch.id)
        }
        new = rows.keys() - seen.lines.keys()
        for position in new:
            offers = (one for one in offered if (one.batch_id, one.position) == (batch.id, position))
            assert rows[position] == next(offers)
            assert 0 <= position < batch.total
        assert not new or _is_recording(seen.batch), "a result was taken though none may be"
        assert all(seen.lines[position] == row for position, row in rows.items() if position not in new)
        seen.lines |= {position: rows[position] for position in new}
        if batch.status not in _WITH_FILES:
            assert rows.keys() == seen.lines.keys(), "a recorded result is lost"
        assert batch.recorded == len(seen.lines)
        assert batch.completed == sum(result.ok for result in seen.lines.values())


def _is_recording(batch: Batch) -> bool:
    return batch.status in RECORDING and batch.sealed_at is None


def _check_move(before: Batch, after: Batch) -> None:
    if before.status is not after.status:
        assert (before.status, after.status) in _NEXT
    assert before.status not in TERMINAL, "a batch that ended changed"
    assert before.completed <= after.completed
    assert before.failed <= after.failed
    assert after.recorded <= after.total
    if after.status in TERMINAL:
        assert after.sections == ()
    else:
        assert before.tasks_dispatched <= after.tasks_dispatched <= after.tasks
        if before.tasks_dispatched != after.tasks_dispatched:
            assert after.status is Status.IN_PROGRESS
    if before.status is not Status.VALIDATING:
        # The lines of a batch without a validation are counted while the files are written.
        is_planned = before.plan_blob is not None
        fixed = (*(("total",) if is_planned else ()), "lines_per_task", "plan_blob", "input_blob", "expires_at")
        assert [getattr(before, name) for name in fixed] == [getattr(after, name) for name in fixed]
    if before.sealed_at is not None:
        assert (before.sealed_at, before.completed, before.failed) == (after.sealed_at, after.completed, after.failed)
