"""Batches in the database; the only place that writes their status."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, func, insert, or_, select, tuple_, update

from app.adapters.db.engine import reading, writing
from app.adapters.db.file_store import add_file, hold_file
from app.adapters.db.key_store import store_claim
from app.adapters.db.tables import batches
from app.domain.batch import Batch, LineError, RunningTotal, Section, Usage, waiting_for
from app.domain.errors import NotFound, StateConflict
from app.domain.lifecycle import ACTIVE, RECORDING, Event, Status, next_status, stamps
from app.services.ports import Claim, Planned, Written

# Two moves of one batch at once make the later one read again; more than a few in a row do not happen.
_MOVE_TRIES = 5

_USAGE = tuple(field.name for field in fields(Usage))
_IS_RUNNING = batches.c.status == Status.IN_PROGRESS
_DISPATCHED = batches.c.tasks_dispatched * batches.c.lines_per_task
# Exact where all lines go to one upstream, else somewhat high at times.
_OUTSTANDING = (
    case((batches.c.total > _DISPATCHED, _DISPATCHED), else_=batches.c.total) - batches.c.completed - batches.c.failed
)
_PLAIN = tuple(f.name for f in fields(Batch) if f.name not in {"usage", "errors", "status", "metadata", "mixed"})


class SqlBatchStore:
    """`BatchStore` on SQLAlchemy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, batch: Batch, *, input_at: float | None = None, claim: Claim | None = None) -> None:
        row = {name: getattr(batch, name) for name in _PLAIN}
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
            return _all(connection.execute(query))

    def advance(self, batch_id: str, event: Event, now: float) -> Batch:
        with writing(self._engine) as connection:
            return _move(connection, batch_id, event, now)

    def accept(self, batch_id: str, planned: Planned, now: float) -> Batch:
        with writing(self._engine) as connection:
            values = planned._asdict() | {"mixed": planned.mixed or None, "tasks": planned.tasks}
            values["waiting_for"] = waiting_for(planned.mixed) if planned.mixed else None
            return _move(connection, batch_id, Event.ACCEPTED, now, values)

    def reject(self, batch_id: str, errors: Sequence[LineError], now: float) -> Batch:
        with writing(self._engine) as connection:
            return _move(connection, batch_id, Event.REJECTED, now, {"errors": [asdict(error) for error in errors]})

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
            values |= {"lease_owner": None, "lease_until": None}
            return _move(connection, batch_id, Event.FILES_WRITTEN, now, values, batches.c.lease_owner == token)

    def seal(self, batch_id: str, token: str, now: float) -> Batch:
        with writing(self._engine) as connection:
            batch = _read(connection, batches.c.id == batch_id, for_update=True)
            if batch is None:
                raise StateConflict(f"There is no batch {batch_id}.")
            held = batches.c.lease_owner == token
            if batch.status is Status.IN_PROGRESS:
                if batch.recorded < batch.total:
                    raise StateConflict(f"{batch.total - batch.recorded} lines of {batch_id} have no result yet.")
                batch = _move(connection, batch_id, Event.ALL_RECORDED, now, {}, held)
            elif batch.status not in ACTIVE - {Status.VALIDATING}:
                raise StateConflict(f"{batch_id} is {batch.status}: there is nothing to finalize.")
            row = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, held)
                .values(sealed_at=batch.sealed_at or now, finalize_tries=batches.c.finalize_tries + 1)
                .returning(*batches.c)
            ).one_or_none()
            if row is None:
                raise StateConflict(f"Another process finalizes {batch_id}.")
            return _batch(row)

    def excuse_try(self, batch_id: str, token: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.lease_owner == token, batches.c.finalize_tries > 0)
                .values(finalize_tries=batches.c.finalize_tries - 1)
            )

    def lease(self, batch_id: str, token: str, now: float, seconds: float) -> bool:
        is_free = or_(batches.c.lease_owner.is_(None), batches.c.lease_owner == token, batches.c.lease_until < now)
        with writing(self._engine) as connection:
            taken = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, is_free)
                .values(lease_owner=token, lease_until=now + seconds)
            )
            return taken.rowcount == 1

    def release(self, batch_id: str, token: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.lease_owner == token)
                .values(lease_owner=None, lease_until=None)
            )

    def move_cursor(self, batch_id: str, from_task: int, to_task: int) -> bool:
        with writing(self._engine) as connection:
            moved = connection.execute(
                update(batches)
                .where(
                    batches.c.id == batch_id,
                    batches.c.status == Status.IN_PROGRESS,
                    batches.c.tasks_dispatched == from_task,
                    batches.c.tasks >= to_task,
                    batches.c.mixed.is_(None),
                )
                .values(tasks_dispatched=to_task)
            )
            return moved.rowcount == 1 or _move_in_section(connection, batch_id, from_task, to_task)

    def active(self, limit: int, statuses: Collection[Status] = ACTIVE) -> list[Batch]:
        return self._nearest(batches.c.status.in_(sorted(statuses)), limit)

    def undispatched(self, limit: int) -> list[Batch]:
        return self._nearest(and_(_IS_RUNNING, batches.c.tasks > batches.c.tasks_dispatched), limit)

    def outstanding(self, limit: int, after: Batch | None = None) -> list[Batch]:
        place = tuple_(batches.c.expires_at, batches.c.id)
        query = select(batches).where(_IS_RUNNING, _OUTSTANDING > 0).order_by(*place)
        if after is not None:
            query = query.where(place > (after.expires_at, after.id))
        with reading(self._engine) as connection:
            return _all(connection.execute(query.limit(limit)))

    def running_totals(self) -> dict[tuple[str, str], RunningTotal]:
        by = (batches.c.upstream, batches.c.tenant_id)
        plain = select(*by, func.count(), func.sum(_OUTSTANDING)).where(_IS_RUNNING, batches.c.mixed.is_(None))
        # Each refill reads all of these: no more of them than it takes.
        mixed = select(batches.c.tenant_id, batches.c.lines_per_task, batches.c.mixed)
        with reading(self._engine) as connection:
            rows = connection.execute(plain.group_by(*by))
            totals = {(name, tenant): RunningTotal(count, int(lines)) for name, tenant, count, lines in rows}
            of_mixed = connection.execute(mixed.where(_IS_RUNNING, batches.c.mixed.is_not(None))).all()
        for tenant, per_task, sections in of_mixed:
            for section in map(Section._make, sections):
                count, lines = totals.get((section.upstream, tenant), RunningTotal())
                totals[section.upstream, tenant] = RunningTotal(count + 1, lines + section.outstanding(per_task))
        return totals

    def _nearest(self, is_wanted: ColumnElement[bool], limit: int) -> list[Batch]:
        query = select(batches).where(is_wanted).order_by(batches.c.expires_at, batches.c.seq)
        with reading(self._engine) as connection:
            found = _all(connection.execute(query.limit(limit)))
            if len(found) < limit:
                return found
            # There may be more than are taken: the nearest of each tenant before the next nearest of any, so that one
            # with many batches leaves room for the others. So it is with those of a tenant that wait for the same
            # upstreams: if one of these is slow or away, they must not keep those for others from being seen.
            way = (batches.c.tenant_id, func.coalesce(batches.c.waiting_for, batches.c.upstream))
            on_its_way = func.row_number().over(partition_by=way, order_by=(batches.c.expires_at, batches.c.seq))
            by_way = (
                select(batches.c.seq, batches.c.tenant_id, batches.c.expires_at, on_its_way.label("place"))
                .where(is_wanted)
                .subquery()
            )
            nearest = (by_way.c.place, by_way.c.expires_at, by_way.c.seq)
            in_order = func.row_number().over(partition_by=by_way.c.tenant_id, order_by=nearest)
            ranked = select(by_way.c.seq, by_way.c.expires_at, in_order.label("place")).subquery()
            chosen = (
                select(ranked.c.seq).order_by(ranked.c.place, ranked.c.expires_at, ranked.c.seq).limit(limit).subquery()
            )
            return _all(connection.execute(query.where(batches.c.seq.in_(select(chosen.c.seq)))))

    def statuses(self, batch_ids: Sequence[str]) -> dict[str, Status]:
        query = select(batches.c.id, batches.c.status).where(batches.c.id.in_(batch_ids))
        with reading(self._engine) as connection:
            return {row.id: Status(row.status) for row in connection.execute(query)}

    def stalled(self, now: float, limit: int) -> list[Batch]:
        is_whole = batches.c.completed + batches.c.failed >= batches.c.total
        query = select(batches).where(
            batches.c.status.in_(sorted(ACTIVE)),
            or_(batches.c.status != Status.IN_PROGRESS, is_whole),
            or_(batches.c.lease_owner.is_(None), batches.c.lease_until < now),
        )
        with reading(self._engine) as connection:
            return _all(connection.execute(query.order_by(batches.c.expires_at, batches.c.seq).limit(limit)))

    def _one(self, condition: ColumnElement[bool]) -> Batch | None:
        with reading(self._engine) as connection:
            return _read(connection, condition)


def is_recording() -> ColumnElement[bool]:
    """Return the guard under which results of a batch are taken."""
    return and_(batches.c.status.in_(sorted(RECORDING)), batches.c.sealed_at.is_(None))


def _read(connection: Connection, condition: ColumnElement[bool], *, for_update: bool = False) -> Batch | None:
    query = select(batches).where(condition)
    row = connection.execute(query.with_for_update() if for_update else query).one_or_none()
    return None if row is None else _batch(row)


def _move(
    connection: Connection,
    batch_id: str,
    event: Event,
    now: float,
    values: dict[str, Any] | None = None,
    guard: ColumnElement[bool] | None = None,
) -> Batch:
    """Apply an event to the status as it is now, together with `values`; nobody else writes the column."""
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
            return _batch(row)
    raise StateConflict(f"The event {event} came too late for {batch_id}: another process was first.")


def _move_in_section(connection: Connection, batch_id: str, from_task: int, to_task: int) -> bool:
    """Move the cursor of one section of a batch that has several."""
    batch = _read(connection, batches.c.id == batch_id, for_update=True)
    if batch is None or batch.status is not Status.IN_PROGRESS:
        return False
    sections = [
        section._replace(next_task=to_task) if section.next_task == from_task < to_task <= section.end_task else section
        for section in batch.mixed
    ]
    if sections == list(batch.mixed):
        return False
    dispatched = batch.tasks_dispatched + to_task - from_task
    values = {"mixed": sections, "waiting_for": waiting_for(sections), "tasks_dispatched": dispatched}
    connection.execute(update(batches).where(batches.c.id == batch_id).values(values))
    return True


def _all(rows: Iterable[Row[Any]]) -> list[Batch]:
    return [_batch(row) for row in rows]


def _batch(row: Row[Any]) -> Batch:
    values = row._mapping
    return Batch(
        **{name: values[name] for name in _PLAIN},
        usage=Usage(*(values[name] for name in _USAGE)),
        errors=tuple(LineError(**error) for error in values["errors"] or ()),
        status=Status(values["status"]),
        metadata=values["metadata"],
        mixed=tuple(Section(*section) for section in values["mixed"] or ()),
    )
