"""Batches in the database."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Select, String, Update, and_, bindparam, insert, or_, select, update

from app.adapters.db.batch_row import PLAIN, as_batch, read_batches, select_batches
from app.adapters.db.engine import reading, writing
from app.adapters.db.file_store import add_file, hold_file
from app.adapters.db.key_store import store_claim
from app.adapters.db.moves import FIND, HELD, OF_ID, apply_event, begin_anew, move_batch, seal_batch
from app.adapters.db.section_rows import add_sections
from app.adapters.db.stages import SqlStages
from app.adapters.db.stored_text import fit_model
from app.adapters.db.tables import batches, files, sections
from app.domain.batch import Batch, LineError
from app.domain.errors import NotFound, StateConflict
from app.domain.lifecycle import Event, Status
from app.services.ports import PAUSED, Claim, Lease, Move, Planned, Written

_MAY_LEASE = or_(batches.c.lease_owner.is_(None), batches.c.lease_owner == bindparam("token"))

# Built once: building a statement costs more than running it.
_ADD = insert(batches)
_GET = select_batches(and_(OF_ID, batches.c.tenant_id == bindparam("tenant_id")))
_STATUSES = select(batches.c.id, batches.c.status).where(batches.c.id.in_(bindparam("batch_ids", expanding=True)))
_INPUT_BYTES = select(files.c.bytes).where(files.c.blob == bindparam("input_blob"))
_LEASE = (
    update(batches)
    .where(OF_ID, _MAY_LEASE)
    .values(lease_owner=bindparam("token"), lease_renewals=batches.c.lease_renewals + 1)
)
_RELEASE = update(batches).where(HELD).values(lease_owner=None)
_PAUSE = update(batches).where(HELD).values(lease_owner=PAUSED + bindparam("token", type_=String))
_BREAK = update(batches).where(HELD, batches.c.lease_renewals == bindparam("seen_renewals")).values(lease_owner=None)
_EXCUSE = update(batches).where(HELD, batches.c.finalize_tries > 0).values(finalize_tries=batches.c.finalize_tries - 1)
_FREE_CURSORS = (
    select(sections.c.batch_id, sections.c.next_task)
    .where(sections.c.batch_id.in_(bindparam("batch_ids", expanding=True)), sections.c.is_sending)
    .order_by(sections.c.batch_id, sections.c.number)
    .with_for_update(skip_locked=True)
)
_MOVE_CURSOR = (
    update(sections)
    .where(
        sections.c.batch_id == bindparam("of_batch"),
        sections.c.is_sending,
        sections.c.next_task == bindparam("from_task"),
        # Where a section ends, the next section begins: a section that was sent whole has its cursor there, too.
        sections.c.next_task < bindparam("to_task"),
        sections.c.end_task >= bindparam("to_task"),
    )
    .values(next_task=bindparam("to_task"))
)


class SqlBatchStore(SqlStages):
    """`BatchStore` on SQLAlchemy."""

    def add(self, batch: Batch, *, input_at: float | None = None, claim: Claim | None = None) -> None:
        row = {name: getattr(batch, name) for name in PLAIN}
        row |= asdict(batch.usage) | {"status": batch.status.value, "metadata": batch.metadata}
        with writing(self._engine) as connection:
            if claim is not None:
                store_claim(connection, batch.tenant_id, claim, batch.id, batch.created_at)
            if input_at is not None:
                hold_file(connection, batch.tenant_id, batch.input_file_id, input_at)
            connection.execute(_ADD, row)

    def get(self, tenant_id: str, batch_id: str) -> Batch | None:
        return self._one(_GET, {"batch_id": batch_id, "tenant_id": tenant_id})

    def find(self, batch_id: str) -> Batch | None:
        return self._one(FIND, {"batch_id": batch_id})

    def input_bytes(self, input_blob: str) -> int | None:
        with reading(self._engine) as connection:
            found: int | None = connection.scalar(_INPUT_BYTES, {"input_blob": input_blob})
        return found

    def page(self, tenant_id: str, *, after: str | None, limit: int) -> list[Batch]:
        page = select(batches.c.seq).where(batches.c.tenant_id == tenant_id).order_by(batches.c.seq.desc()).limit(limit)
        with reading(self._engine) as connection:
            if after is not None:
                seq = connection.scalar(
                    select(batches.c.seq).where(batches.c.id == after, batches.c.tenant_id == tenant_id)
                )
                if seq is None:
                    raise NotFound(f"No batch found with id '{after}'.", param="after")
                page = page.where(batches.c.seq < seq)
            is_on_page = batches.c.seq.in_(page.subquery().select())
            return read_batches(connection, select_batches(is_on_page, batches.c.seq.desc()))

    def advance(self, batch_id: str, event: Event, now: float) -> Batch:
        return begin_anew(self._engine, batch_id, lambda connection: apply_event(connection, batch_id, event, now))

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        parts = planned.sections
        values = {name: getattr(planned, name) for name in ("plan_blob", "lines_per_task", "total")}
        # Without a model, workers read the model in each line.
        values["model"] = None if planned.model is None else fit_model(planned.model)
        values |= {"plan_digest": planned.plan_digest, "sections_left": len(parts), "lease_owner": None}
        with writing(self._engine, is_synced=False) as connection:
            # A batch that is validating has no sections to lock.
            row = move_batch(connection, batch_id, Status.VALIDATING, Event.ACCEPTED, now, values)
            if row is None:
                raise StateConflict(f"{batch_id} is not validating any more.")
            add_sections(connection, row, parts, planned.lines_per_task)
            return as_batch(row._mapping, parts)

    def reject(self, batch_id: str, errors: Sequence[LineError], now: float) -> Batch:
        return self._end_with(errors, batch_id, Event.REJECTED, now)

    def give_up(self, batch_id: str, reasons: Sequence[LineError], now: float) -> Batch:
        return self._end_with(reasons, batch_id, Event.GAVE_UP, now)

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        values: dict[str, Any] = {} if written.total is None else {"total": written.total}
        files = [file for file in (written.output, written.errors) if file is not None]
        values |= {"output_file_id": written.output.id} if written.output is not None else {}
        values |= {"error_file_id": written.errors.id} if written.errors is not None else {}
        values["lease_owner"] = None

        def finish(connection: Connection) -> Batch:
            for file in files:
                add_file(connection, file)
            return apply_event(connection, batch_id, Event.FILES_WRITTEN, now, values, token)

        return begin_anew(self._engine, batch_id, finish)

    def seal(self, batch_id: str, token: str, now: float) -> Batch:
        return begin_anew(
            self._engine, batch_id, lambda connection: seal_batch(connection, batch_id, token, now), is_synced=False
        )

    def excuse_try(self, batch_id: str, token: str) -> None:
        self._write(_EXCUSE, {"batch_id": batch_id, "token": token})

    def lease(self, batch_id: str, token: str) -> bool:
        return self._write(_LEASE, {"batch_id": batch_id, "token": token})

    def release(self, batch_id: str, token: str) -> None:
        self._write(_RELEASE, {"batch_id": batch_id, "token": token})

    def pause_lease(self, batch_id: str, token: str) -> None:
        self._write(_PAUSE, {"batch_id": batch_id, "token": token})

    def break_lease(self, lease: Lease) -> bool:
        seen = {"batch_id": lease.batch_id, "token": lease.owner, "seen_renewals": lease.renewals}
        return self._write(_BREAK, seen)

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        with writing(self._engine, is_synced=False) as connection:
            return _move_cursor(connection, Move(batch_id, from_task, to_task))

    def move_free_cursors(self, moves: Sequence[Move]) -> set[str]:
        moved = set()
        with writing(self._engine, is_synced=False) as connection:
            rows = connection.execute(_FREE_CURSORS, {"batch_ids": [move.batch_id for move in moves]})
            free = {tuple(row) for row in rows}
            for move in moves:
                if (move.batch_id, move.from_task) in free and _move_cursor(connection, move):
                    moved.add(move.batch_id)
        return moved

    def statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        with reading(self._engine) as connection:
            found = connection.execute(_STATUSES, {"batch_ids": list(batch_ids)})
            return {row.id: Status(row.status) for row in found}

    def _end_with(self, errors: Sequence[LineError], batch_id: str, event: Event, now: float) -> Batch:
        values = {"errors": [asdict(error) for error in errors], "lease_owner": None}
        return begin_anew(
            self._engine, batch_id, lambda connection: apply_event(connection, batch_id, event, now, values)
        )

    def _write(self, statement: Update, values: dict[str, Any]) -> bool:
        """Run a statement that no answer rests on; return whether it changed a row."""
        with writing(self._engine, is_synced=False) as connection:
            return connection.execute(statement, values).rowcount == 1

    def _one(self, query: Select[Any], values: dict[str, Any]) -> Batch | None:
        with reading(self._engine) as connection:
            return next(iter(read_batches(connection, query, values)), None)


def _move_cursor(connection: Connection, move: Move) -> bool:
    given = {"of_batch": move.batch_id, "from_task": move.from_task, "to_task": move.to_task}
    return connection.execute(_MOVE_CURSOR, given).rowcount == 1
