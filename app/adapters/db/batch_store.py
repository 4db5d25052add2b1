"""Batches in the database; the only module that writes their status."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, insert, or_, select, update

from app.adapters.db.batch_row import PLAIN, as_batch, as_batches
from app.adapters.db.engine import reading, writing
from app.adapters.db.file_store import add_file, hold_file
from app.adapters.db.key_store import store_claim
from app.adapters.db.stages import SqlStages
from app.adapters.db.tables import batches, files
from app.domain.batch import Batch, LineError, waiting_for
from app.domain.errors import NotFound, StateConflict
from app.domain.lifecycle import ACTIVE, RECORDING, Event, Status, next_status, stamps
from app.services.ports import PAUSED, Claim, Lease, Planned, Written

# When two moves of a batch collide, the later move reads again; more than a few collisions in a row do not happen.
_MOVE_TRIES = 5


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
        return self._one(and_(batches.c.id == batch_id, batches.c.tenant_id == tenant_id))

    def find(self, batch_id: str) -> Batch | None:
        return self._one(batches.c.id == batch_id)

    def input_bytes(self, input_blob: str) -> int | None:
        with reading(self._engine) as connection:
            found: int | None = connection.scalar(select(files.c.bytes).where(files.c.blob == input_blob))
        return found

    def page(self, tenant_id: str, *, after: str | None, limit: int) -> list[Batch]:
        query = select(batches).where(batches.c.tenant_id == tenant_id).order_by(batches.c.seq.desc()).limit(limit)
        with reading(self._engine) as connection:
            if after is not None:
                seq = connection.scalar(
                    select(batches.c.seq).where(batches.c.id == after, batches.c.tenant_id == tenant_id)
                )
                if seq is None:
                    raise NotFound(f"No batch found with id '{after}'.", param="after")
                query = query.where(batches.c.seq < seq)
            return as_batches(connection.execute(query))

    def advance(self, batch_id: str, event: Event, now: float) -> Batch:
        with writing(self._engine) as connection:
            return _move(connection, batch_id, event, now)

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        with writing(self._engine, is_synced=False) as connection:
            values = planned._asdict() | {"mixed": planned.mixed or None, "tasks": planned.tasks, "lease_owner": None}
            values["waiting_for"] = waiting_for(planned.mixed) if planned.mixed else planned.upstream
            return _move(connection, batch_id, Event.ACCEPTED, now, values)

    def reject(self, batch_id: str, errors: Sequence[LineError], now: float) -> Batch:
        with writing(self._engine) as connection:
            values = {"errors": [asdict(error) for error in errors], "lease_owner": None}
            return _move(connection, batch_id, Event.REJECTED, now, values)

    def give_up(self, batch_id: str, reasons: Sequence[LineError], now: float) -> Batch:
        with writing(self._engine) as connection:
            values = {"errors": [asdict(reason) for reason in reasons], "lease_owner": None}
            return _move(connection, batch_id, Event.GAVE_UP, now, values)

    def finish(self, batch_id: str, written: Written, token: str, now: float) -> Batch:
        values = asdict(written.usage)
        if written.total is not None:
            values["total"] = written.total
        with writing(self._engine) as connection:
            if written.output is not None:
                add_file(connection, written.output)
                values["output_file_id"] = written.output.id
            if written.errors is not None:
                add_file(connection, written.errors)
                values["error_file_id"] = written.errors.id
            values |= {"lease_owner": None}
            return _move(connection, batch_id, Event.FILES_WRITTEN, now, values, batches.c.lease_owner == token)

    def seal(self, batch_id: str, token: str, now: float) -> Batch:
        with writing(self._engine, is_synced=False) as connection:
            batch = _read(connection, batches.c.id == batch_id, for_update=True)
            if batch is None:
                raise StateConflict(f"There is no batch {batch_id}.")
            held = _may_lease(token)
            if batch.status is Status.IN_PROGRESS:
                if batch.recorded < batch.total:
                    raise StateConflict(f"{batch.total - batch.recorded} lines of {batch_id} have no result yet.")
                batch = _move(connection, batch_id, Event.ALL_RECORDED, now, {}, held)
            elif batch.status not in ACTIVE - {Status.VALIDATING}:
                raise StateConflict(f"{batch_id} is {batch.status}: there is nothing to finalize.")
            row = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, held)
                .values(
                    sealed_at=batch.sealed_at or now, finalize_tries=batches.c.finalize_tries + 1, **_leased_by(token)
                )
                .returning(*batches.c)
            ).one_or_none()
            if row is None:
                raise StateConflict(f"Another process finalizes {batch_id}.")
            return as_batch(row)

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
        with writing(self._engine, is_synced=False) as connection:
            moved = connection.execute(
                update(batches)
                .where(
                    batches.c.id == batch_id,
                    batches.c.status == Status.IN_PROGRESS,
                    batches.c.tasks_dispatched == from_task,
                    batches.c.tasks >= to_task,
                    batches.c.mixed.is_(None),
                )
                .values(tasks_dispatched=to_task, lines_dispatched=_lines_of(to_task))
            )
            return moved.rowcount == 1 or _move_in_section(connection, batch_id, from_task, to_task)

    def statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        query = select(batches.c.id, batches.c.status).where(batches.c.id.in_(batch_ids))
        with reading(self._engine) as connection:
            return {row.id: Status(row.status) for row in connection.execute(query)}

    def _one(self, condition: ColumnElement[bool]) -> Batch | None:
        with reading(self._engine) as connection:
            return _read(connection, condition)


def is_recording() -> ColumnElement[bool]:
    """Return the condition under which a batch accepts results."""
    return and_(batches.c.status.in_(sorted(RECORDING)), batches.c.sealed_at.is_(None))


def _may_lease(token: str) -> ColumnElement[bool]:
    """Return the condition under which a holder may take a lease: the lease is free, or held by the holder."""
    return or_(batches.c.lease_owner.is_(None), batches.c.lease_owner == token)


def _leased_by(token: str) -> dict[str, Any]:
    return {"lease_owner": token, "lease_renewals": batches.c.lease_renewals + 1}


def _read(connection: Connection, condition: ColumnElement[bool], *, for_update: bool = False) -> Batch | None:
    query = select(batches).where(condition)
    row = connection.execute(query.with_for_update() if for_update else query).one_or_none()
    return None if row is None else as_batch(row)


def _move(
    connection: Connection,
    batch_id: str,
    event: Event,
    now: float,
    values: dict[str, Any] | None = None,
    guard: ColumnElement[bool] | None = None,
) -> Batch:
    """Apply an event to the current status, together with `values`; no other function writes the column."""
    for _ in range(_MOVE_TRIES):
        read = connection.scalar(select(batches.c.status).where(batches.c.id == batch_id))
        if read is None:
            raise StateConflict(f"There is no batch {batch_id}.")
        status = next_status(Status(read), event)
        moved = update(batches).where(batches.c.id == batch_id, batches.c.status == read)
        if guard is not None:
            moved = moved.where(guard)
        moved = moved.values({**(values or {}), "status": status.value, **dict.fromkeys(stamps(status), now)})
        row = connection.execute(moved.returning(*batches.c)).one_or_none()
        if row is not None:
            return as_batch(row)
    raise StateConflict(f"The event {event} came too late for {batch_id}: another process was first.")


def _lines_of(tasks: int) -> ColumnElement[int]:
    """Return the number of lines in the first `tasks` tasks of a batch for a single upstream."""
    lines = batches.c.lines_per_task * tasks
    return case((lines < batches.c.total, lines), else_=batches.c.total)


def _move_in_section(connection: Connection, batch_id: str, from_task: int, to_task: int) -> bool:
    """Move the cursor of a section, in a batch with several sections."""
    batch = _read(connection, batches.c.id == batch_id, for_update=True)
    if batch is None or batch.status is not Status.IN_PROGRESS:
        return False
    sections = [
        section._replace(next_task=to_task) if section.next_task == from_task < to_task <= section.end_task else section
        for section in batch.mixed
    ]
    if sections == list(batch.mixed):
        return False
    values = {
        "mixed": sections,
        "waiting_for": waiting_for(sections),
        "tasks_dispatched": batch.tasks_dispatched + to_task - from_task,
        "lines_dispatched": sum(section.dispatched(batch.lines_per_task) for section in sections),
    }
    connection.execute(update(batches).where(batches.c.id == batch_id).values(values))
    return True
