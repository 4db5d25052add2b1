"""What upkeep and dispatch look for every second or so, each by an index of the column `stage`.

No query here reads more rows than it returns, but for a few: not batches that have ended, and not each batch that runs.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, and_, bindparam, func, literal, or_, select, tuple_, union_all

from app.adapters.db.batch_row import as_batches
from app.adapters.db.engine import reading
from app.adapters.db.tables import batches
from app.domain.batch import Batch, InFlight, RunningTotal, Section
from app.domain.lifecycle import Status
from app.domain.looks import Waiting, choose, choose_newest
from app.services.ports import Lease

# Of a batch in progress: nothing was handed out; all that was handed out has a result; some of it has none; all lines
# are handed out and some have no result; all have one.
NEW, IDLE, SENDING, SENT, RECORDED = "new", "idle", "sending", "sent", "recorded"
# The batch has ended with its files, and its results are not deleted yet.
UNCLEARED = "uncleared"

_UNDISPATCHED = (NEW, IDLE, SENDING)
_UNRECORDED = (NEW, IDLE, SENDING, SENT)
_EXPIRABLE = (Status.VALIDATING, *_UNRECORDED, RECORDED)
# Only control goes on with these.
_STALLED = (Status.VALIDATING, RECORDED, Status.FINALIZING, Status.CANCELLING, Status.EXPIRING)

# Each way in which batches wait may give so many times its part of the places, for other ways may not need theirs.
_SPARE = 4
# Beside the places by deadline there is one for the newest batches in so many.
_NEWEST_PART = 8

_C = batches.c
_BY_DEADLINE = (_C.expires_at, _C.seq)
_OUTSTANDING = _C.lines_dispatched - _C.completed - _C.failed
_OF_WAY = and_(
    _C.stage == bindparam("stage"), _C.tenant_id == bindparam("tenant_id"), _C.waiting_for == bindparam("waiting_for")
)
_KEYS = select(_C.seq, _C.tenant_id, _C.waiting_for, _C.expires_at)
_NEAREST = _KEYS.where(_OF_WAY).order_by(*_BY_DEADLINE).limit(bindparam("limit"))
_NEWEST = _KEYS.where(_OF_WAY).order_by(_C.seq.desc()).limit(bindparam("limit"))


def _ways() -> Select[Any]:
    """Select each stage, tenant and list of upstreams of which a batch waits to be handed out, by steps in the index.

    From one the next is found where the rest of its batches end, and nothing in between is read.
    """
    first = select(_C.seq).order_by(_C.stage, _C.tenant_id, _C.waiting_for, *_BY_DEADLINE).limit(1)
    starts = [first.where(_C.stage == stage).scalar_subquery() for stage in _UNDISPATCHED]
    way = select(_C.stage, _C.tenant_id, _C.waiting_for).where(_C.seq.in_(starts)).cte("way", recursive=True)
    following = batches.alias("following")
    # SQLite finds a column by another's value in an index only where that has the form of an expression.
    place = tuple_(way.c.tenant_id + literal(""), way.c.waiting_for + literal(""))
    is_behind = tuple_(_C.tenant_id, _C.waiting_for) > place
    next_of_stage = first.where(_C.stage == way.c.stage, is_behind).correlate(way).scalar_subquery()
    steps = select(following.c.stage, following.c.tenant_id, following.c.waiting_for)
    return select(way.union_all(steps.join_from(way, following, following.c.seq == next_of_stage)))


_WAYS = _ways()


class SqlStages:
    """The part of `BatchStore` that finds batches by what is to be done for them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def expired(self, now: float, limit: int) -> list[Batch]:
        return self._nearest(_EXPIRABLE, _C.expires_at <= now, limit)

    def stalled(self, limit: int) -> list[Batch]:
        return self._nearest(_STALLED, _C.lease_owner.is_(None), limit)

    def leases(self) -> list[Lease]:
        query = select(_C.id, _C.lease_owner, _C.lease_renewals)
        with reading(self._engine) as connection:
            rows = connection.execute(query.where(_C.stage.in_(_STALLED), _C.lease_owner.is_not(None)))
            return [Lease(*row) for row in rows]

    def active_ids(self) -> set[str]:
        with reading(self._engine) as connection:
            return set(connection.scalars(select(_C.id).where(_C.stage.in_((*_UNRECORDED, *_STALLED)))))

    def count_active(self) -> dict[Status, int]:
        query = select(_C.status, func.count()).where(_C.stage.in_((*_UNRECORDED, *_STALLED))).group_by(_C.status)
        with reading(self._engine) as connection:
            return {Status(status): count for status, count in connection.execute(query)}

    def bound_elsewhere(self, upstreams: Collection[str]) -> list[Batch]:
        is_elsewhere = or_(_C.upstream.not_in(sorted(upstreams)), _C.mixed.is_not(None))
        query = select(batches).where(_C.stage.in_(_UNRECORDED), is_elsewhere).order_by(*_BY_DEADLINE)
        with reading(self._engine) as connection:
            return as_batches(connection.execute(query))

    def in_flight(self) -> list[InFlight]:
        # Repair reads all of these: no more of each than it takes.
        query = select(_C.id, _C.lines_per_task, _C.upstream, _C.total, _C.tasks, _C.tasks_dispatched, _C.mixed)
        query = query.add_columns((_C.completed + _C.failed).label("recorded")).where(_C.stage.in_((SENDING, SENT)))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(*_BY_DEADLINE)).all()
        found = []
        for row in rows:
            whole = Section(row.upstream, 0, row.tasks, 0, row.total, row.tasks_dispatched, row.recorded)
            sections = tuple(map(Section._make, row.mixed or ()))
            found.append(InFlight(row.id, row.lines_per_task, sections or (whole,), row.recorded))
        return found

    def outstanding_totals(self) -> dict[tuple[str, str], RunningTotal]:
        by = (_C.upstream, _C.tenant_id)
        is_out = _C.stage.in_((SENDING, SENT))
        plain = select(*by, func.count(), func.sum(_OUTSTANDING)).where(is_out, _C.mixed.is_(None)).group_by(*by)
        mixed = select(_C.tenant_id, _C.lines_per_task, _C.mixed).where(is_out, _C.mixed.is_not(None))
        with reading(self._engine) as connection:
            rows = connection.execute(plain)
            totals = {(name, tenant): RunningTotal(count, int(lines)) for name, tenant, count, lines in rows}
            of_mixed = connection.execute(mixed).all()
        for tenant, per_task, sections in of_mixed:
            for section in map(Section._make, sections):
                if lines := section.outstanding(per_task):
                    count, before = totals.get((section.upstream, tenant), RunningTotal())
                    totals[section.upstream, tenant] = RunningTotal(count + 1, before + lines)
        return totals

    def undispatched(self, limit: int) -> list[Batch]:
        with reading(self._engine) as connection:
            ways = [row._asdict() for row in connection.execute(_WAYS)]
            each = {"limit": max(_SPARE * limit // max(len(ways), 1), 1)}
            found = [
                Waiting(*row, way["stage"] == SENDING)
                for way in ways
                for row in connection.execute(_NEAREST, way | each)
            ]
            chosen = choose(found, limit)
            of_new = [way for way in ways if way["stage"] == NEW]
            places = limit // _NEWEST_PART
            each = {"limit": -(-places // max(len(of_new), 1))}
            newest = [Waiting(*row, False) for way in of_new for row in connection.execute(_NEWEST, way | each)]
            chosen |= choose_newest(newest, places)
            query = select(batches).where(_C.seq.in_(sorted(chosen))).order_by(*_BY_DEADLINE)
            return as_batches(connection.execute(query))

    def _nearest(self, stages: Collection[str], is_wanted: ColumnElement[bool], limit: int) -> list[Batch]:
        """Return the nearest deadlines among these stages, of each of which no more than these are read."""
        of_stage = [
            select(select(_C.seq).where(_C.stage == stage, is_wanted).order_by(*_BY_DEADLINE).limit(limit).subquery())
            for stage in stages
        ]
        query = select(batches).where(_C.seq.in_(union_all(*of_stage))).order_by(*_BY_DEADLINE).limit(limit)
        with reading(self._engine) as connection:
            return as_batches(connection.execute(query))
