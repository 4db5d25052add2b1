"""Batches in the database; the only module that writes their status."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, insert, or_, select, update

from app.adapters.db.batch_row import PLAIN, read_batches, select_batches
from app.adapters.db.engine import reading, writing
from app.adapters.db.file_store import add_file, hold_file
from app.adapters.db.key_store import store_claim
from app.adapters.db.section_rows import (
    add_sections,
    close_sections,
    follow_batch,
    lock_sections,
    read_totals,
)
from app.adapters.db.stages import SqlStages
from app.adapters.db.tables import batches, files, sections
from app.domain.batch import Batch, LineError
from app.domain.errors import NotFound, StateConflict
from app.domain.lifecycle import ACTIVE, TERMINAL, Event, Status, next_status, stamps
from app.services.ports import PAUSED, Claim, Lease, Planned, Written

# When two moves of a batch collide, the later move reads again; more than a few collisions in a row do not happen.
_MOVE_TRIES = 5

# Built once: building a statement costs more than running it.
_FIND = select_batches(batches.c.id == bindparam("batch_id"))
_FIND_LOCKED = _FIND.with_for_update(of=batches)
_GET = select_batches(and_(batches.c.id == bindparam("batch_id"), batches.c.tenant_id == bindparam("tenant_id")))


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
            connection.execute(insert(batches).values(row))

    def get(self, tenant_id: str, batch_id: str) -> Batch | None:
        return self._one(_GET, {"batch_id": batch_id, "tenant_id": tenant_id})

    def find(self, batch_id: str) -> Batch | None:
        return self._one(_FIND, {"batch_id": batch_id})

    def input_bytes(self, input_blob: str) -> int | None:
        with reading(self._engine) as connection:
            found: int | None = connection.scalar(select(files.c.bytes).where(files.c.blob == input_blob))
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
        with writing(self._engine) as connection:
            return _moved(connection, batch_id, event, now)

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        parts = planned.sections
        values = {name: getattr(planned, name) for name in ("plan_blob", "lines_per_task", "total", "model")}
        values |= {"plan_digest": planned.plan_digest, "sections_left": len(parts), "lease_owner": None}
        with writing(self._engine, is_synced=False) as connection:
            _move(connection, batch_id, Event.ACCEPTED, now, values)
            add_sections(connection, batch_id, parts, planned.lines_per_task)
            return _known(connection, batch_id)

    def reject(self, batch_id: str, errors: Sequence[LineError], now: float) -> Batch:
        with writing(self._engine) as connection:
            values = {"errors": [asdict(error) for error in errors], "lease_owner": None}
            return _moved(connection, batch_id, Event.REJECTED, now, values)

    def give_up(self, batch_id: str, reasons: Sequence[LineError], now: float) -> Batch:
        with writing(self._engine) as connection:
            values = {"errors": [asdict(reason) for reason in reasons], "lease_owner": None}
            return _moved(connection, batch_id, Event.GAVE_UP, now, values)

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        values: dict[str, Any] = {} if written.total is None else {"total": written.total}
        with writing(self._engine) as connection:
            if written.output is not None:
                add_file(connection, written.output)
                values["output_file_id"] = written.output.id
            if written.errors is not None:
                add_file(connection, written.errors)
                values["error_file_id"] = written.errors.id
            values |= {"lease_owner": None}
            return _moved(connection, batch_id, Event.FILES_WRITTEN, now, values, batches.c.lease_owner == token)

    def seal(self, batch_id: str, token: str, now: float) -> Batch:
        with writing(self._engine, is_synced=False) as connection:
            lock_sections(connection, batch_id)
            batch = next(iter(read_batches(connection, _FIND_LOCKED, {"batch_id": batch_id})), None)
            if batch is None:
                raise StateConflict(f"There is no batch {batch_id}.")
            held = _may_lease(token)
            if batch.status is Status.IN_PROGRESS:
                if batch.recorded < batch.total:
                    raise StateConflict(f"{batch.total - batch.recorded} lines of {batch_id} have no result yet.")
                _move(connection, batch_id, Event.ALL_RECORDED, now, {}, held)
            elif batch.status not in ACTIVE - {Status.VALIDATING}:
                raise StateConflict(f"{batch_id} is {batch.status}: there is nothing to finalize.")
            close_sections(connection, batch_id)
            sealed = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, held)
                .values(
                    sealed_at=batch.sealed_at or now, finalize_tries=batches.c.finalize_tries + 1, **_leased_by(token)
                )
            )
            if sealed.rowcount == 0:
                raise StateConflict(f"Another process finalizes {batch_id}.")
            return _known(connection, batch_id)

    def excuse_try(self, batch_id: str, token: str) -> None:
        with writing(self._engine, is_synced=False) as connection:
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.lease_owner == token, batches.c.finalize_tries > 0)
                .values(finalize_tries=batches.c.finalize_tries - 1)
            )

    def lease(self, batch_id: str, token: str) -> bool:
        with writing(self._engine, is_synced=False) as connection:
            taken = connection.execute(
                update(batches).where(batches.c.id == batch_id, _may_lease(token)).values(_leased_by(token))
            )
            return taken.rowcount == 1

    def release(self, batch_id: str, token: str) -> None:
        with writing(self._engine, is_synced=False) as connection:
            connection.execute(
                update(batches).where(batches.c.id == batch_id, batches.c.lease_owner == token).values(lease_owner=None)
            )

    def pause_lease(self, batch_id: str, token: str) -> None:
        with writing(self._engine, is_synced=False) as connection:
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.lease_owner == token)
                .values(lease_owner=PAUSED + token)
            )

    def break_lease(self, lease: Lease) -> bool:
        is_unchanged = and_(batches.c.lease_owner == lease.owner, batches.c.lease_renewals == lease.renewals)
        with writing(self._engine, is_synced=False) as connection:
            broken = connection.execute(
                update(batches).where(batches.c.id == lease.batch_id, is_unchanged).values(lease_owner=None)
            )
            return broken.rowcount == 1

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        # Where a section ends, the next section begins: a section that was sent whole has its cursor there, too.
        is_within = and_(sections.c.next_task < to_task, sections.c.end_task >= to_task)
        with writing(self._engine, is_synced=False) as connection:
            moved = connection.execute(
                update(sections)
                .where(
                    sections.c.batch_id == batch_id,
                    sections.c.is_sending,
                    sections.c.next_task == from_task,
                    is_within,
                )
                .values(next_task=to_task)
            )
            return moved.rowcount == 1

    def statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        query = select(batches.c.id, batches.c.status).where(batches.c.id.in_(batch_ids))
        with reading(self._engine) as connection:
            return {row.id: Status(row.status) for row in connection.execute(query)}

    def _one(self, query: Select[Any], values: dict[str, Any]) -> Batch | None:
        with reading(self._engine) as connection:
            return next(iter(read_batches(connection, query, values)), None)


def _known(connection: Connection, batch_id: str) -> Batch:
    (batch,) = read_batches(connection, _FIND, {"batch_id": batch_id})
    return batch


def _may_lease(token: str) -> ColumnElement[bool]:
    """Return the condition under which a holder may take a lease: the lease is free, or held by the holder."""
    return or_(batches.c.lease_owner.is_(None), batches.c.lease_owner == token)


def _leased_by(token: str) -> dict[str, Any]:
    return {"lease_owner": token, "lease_renewals": batches.c.lease_renewals + 1}


def _moved(
    connection: Connection,
    batch_id: str,
    event: Event,
    now: float,
    values: dict[str, Any] | None = None,
    guard: ColumnElement[bool] | None = None,
) -> Batch:
    """Apply an event as `_move` does, and return the batch."""
    _move(connection, batch_id, event, now, values, guard)
    return _known(connection, batch_id)


def _move(
    connection: Connection,
    batch_id: str,
    event: Event,
    now: float,
    values: dict[str, Any] | None = None,
    guard: ColumnElement[bool] | None = None,
) -> None:
    """Apply an event to the current status, together with `values`; no other function writes the column."""
    for _ in range(_MOVE_TRIES):
        counts = lock_sections(connection, batch_id)
        read = connection.scalar(select(batches.c.status).where(batches.c.id == batch_id))
        if read is None:
            raise StateConflict(f"There is no batch {batch_id}.")
        status = next_status(Status(read), event)
        moved = update(batches).where(batches.c.id == batch_id, batches.c.status == read)
        if guard is not None:
            moved = moved.where(guard)
        totals = read_totals(connection, batch_id, *counts) if status in TERMINAL else {}
        moved = moved.values({**(values or {}), **totals, "status": status.value, **dict.fromkeys(stamps(status), now)})
        if connection.execute(moved).rowcount == 1:
            follow_batch(connection, batch_id, status)
            return
    raise StateConflict(f"The event {event} came too late for {batch_id}: another process was first.")
