"""Moves of batches from status to status; the only module that writes the status."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, bindparam, select, update

from app.adapters.db.batch_row import as_batch, read_batches, select_batches
from app.adapters.db.engine import writing
from app.adapters.db.section_rows import Locked, close_sections, follow_batch, lock_sections, read_totals
from app.adapters.db.tables import batches
from app.domain.batch import Batch
from app.domain.errors import StateConflict
from app.domain.lifecycle import ACTIVE, TERMINAL, Event, Status, next_status, stamps

# When two moves of a batch collide, the later move begins anew; more than a few collisions in a row do not happen.
_MOVE_TRIES = 5

OF_ID = batches.c.id == bindparam("batch_id")
HELD = and_(OF_ID, batches.c.lease_owner == bindparam("token"))
FIND = select_batches(OF_ID)

# Built once: building a statement costs more than running it.
_FIND_LOCKED = FIND.with_for_update(of=batches)
_STATUS = select(batches.c.status, batches.c.total).where(OF_ID)
_SEAL_AGAIN = (
    update(batches)
    .where(OF_ID)
    .values({name: bindparam(f"new_{name}") for name in ("sealed_at", "finalize_tries", "lease_owner")})
    .returning(*batches.c)
)


class _Collision(Exception):
    """Another process moved the batch in the midst of this transaction."""


def begin_anew(engine: Engine, batch_id: str, act: Callable[[Connection], Batch], *, is_synced: bool = True) -> Batch:
    """Run a transaction, and begin it anew when it collides with another process.

    A collision leaves a transaction with the lock of the batch's row and without the locks of sections, which come
    first in the order of locks.
    """
    for _ in range(_MOVE_TRIES):
        with suppress(_Collision), writing(engine, is_synced=is_synced) as connection:
            return act(connection)
    raise StateConflict(f"Other processes were first with {batch_id}.")


def apply_event(
    connection: Connection,
    batch_id: str,
    event: Event,
    now: float,
    values: dict[str, Any] | None = None,
    token: str | None = None,
) -> Batch:
    """Apply an event to the current status, together with `values`; with a token, only for the holder of the lease."""
    locked = lock_sections(connection, batch_id)
    read = connection.execute(_STATUS, {"batch_id": batch_id}).one_or_none()
    if read is None:
        raise StateConflict(f"There is no batch {batch_id}.")
    status = next_status(Status(read.status), event)
    _check_locked(read.total, locked)
    totals = read_totals(connection, batch_id, locked) if status in TERMINAL else {}
    row = move_batch(connection, batch_id, Status(read.status), event, now, {**(values or {}), **totals}, token)
    if row is None:
        raise _Collision
    follow_batch(connection, batch_id, status)
    if status in TERMINAL:
        return as_batch(row._mapping)
    (batch,) = read_batches(connection, FIND, {"batch_id": batch_id})
    return batch


def _check_locked(total: int, locked: Locked) -> None:
    """Raise if a batch, active with this total, was accepted after the search for its sections."""
    if total and not locked.sections:
        raise _Collision


def seal_batch(connection: Connection, batch_id: str, token: str, now: float) -> Batch:
    """Take no result from now on, for the process whose lease has this token."""
    locked = lock_sections(connection, batch_id)
    batch = next(iter(read_batches(connection, _FIND_LOCKED, {"batch_id": batch_id})), None)
    if batch is None:
        raise StateConflict(f"There is no batch {batch_id}.")
    if batch.lease_owner not in (None, token):
        raise StateConflict(f"Another process finalizes {batch_id}.")
    values: dict[str, Any] = {"sealed_at": batch.sealed_at or now, "lease_owner": token}
    values["finalize_tries"] = batch.finalize_tries + 1
    if batch.status not in ACTIVE - {Status.VALIDATING}:
        raise StateConflict(f"{batch_id} is {batch.status}: there is nothing to finalize.")
    _check_locked(batch.total, locked)
    if batch.status is not Status.IN_PROGRESS:
        row = connection.execute(_SEAL_AGAIN, {"batch_id": batch_id, **_new(values)}).one()
    elif batch.recorded < batch.total:
        raise StateConflict(f"{batch.total - batch.recorded} lines of {batch_id} have no result yet.")
    else:
        # The row is locked: nobody was first.
        row = move_batch(connection, batch_id, batch.status, Event.ALL_RECORDED, now, values)
    if row is None:
        raise StateConflict(f"Another process was first with {batch_id}.")
    close_sections(connection, batch_id)
    return as_batch({**row._mapping, "completed": batch.completed, "failed": batch.failed}, batch.sections)


def move_batch(
    connection: Connection,
    batch_id: str,
    status: Status,
    event: Event,
    now: float,
    values: dict[str, Any],
    token: str | None = None,
) -> Row[Any] | None:
    """Apply an event to a batch in `status`, together with `values`; return the row, or None if another was first."""
    to = next_status(status, event)
    written = {**values, **dict.fromkeys(stamps(to), now), "status": to.value}
    given = {"batch_id": batch_id, "old_status": status.value, "token": token, **_new(written)}
    return connection.execute(_move_statement(tuple(written), is_held=token is not None), given).one_or_none()


@cache
def _move_statement(names: tuple[str, ...], *, is_held: bool) -> Any:
    """Return the statement of a move that writes these columns; no other statement writes the status."""
    move = update(batches).where(HELD if is_held else OF_ID, batches.c.status == bindparam("old_status"))
    return move.values({"status": bindparam("new_status"), **_parameters(names)}).returning(*batches.c)


def _parameters(names: Iterable[str]) -> dict[str, Any]:
    return {name: bindparam(f"new_{name}", type_=batches.c[name].type) for name in names}


def _new(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values under the names of their parameters."""
    return {f"new_{name}": value for name, value in values.items()}
