"""Finds the batches for upkeep and dispatch, every second or so, by an index on the column `stage`.

Apart from a few rows, a query here reads only the rows to return: neither the ended batches nor every running batch.
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

# Of a batch in progress. New: no line is handed out. Idle: every line handed out has a result. Sending: lines handed
# out lack a result. Sent: every line is handed out and lines lack a result. Recorded: every line has a result.
NEW, IDLE, SENDING, SENT, RECORDED = "new", "idle", "sending", "sent", "recorded"
# The batch has ended with its files, and the results are not deleted yet.
UNCLEARED = "uncleared"

_UNDISPATCHED = (NEW, IDLE, SENDING)
_UNRECORDED = (NEW, IDLE, SENDING, SENT)
_EXPIRABLE = (Status.VALIDATING, *_UNRECORDED, RECORDED)
# Only control continues batches in these stages.
_STALLED = (Status.VALIDATING, RECORDED, Status.FINALIZING, Status.CANCELLING, Status.EXPIRING)

# A group of waiting batches may offer this many times the group's share of the places, because other groups may leave
# places free.
_SPARE = 4
# Besides the places by deadline, the newest batches get one place in this many.
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
    """Select each stage, tenant and list of upstreams with a batch waiting to be handed out, by steps in the index.

    Each step starts behind the batches of the previous group, and reads no row in between.
    """
    first = select(_C.seq).order_by(_C.stage, _C.tenant_id, _C.waiting_for, *_BY_DEADLINE).limit(1)
    starts = [first.where(_C.stage == stage).scalar_subquery() for stage in _UNDISPATCHED]
    way = select(_C.stage, _C.tenant_id, _C.waiting_for).where(_C.seq.in_(starts)).cte("way", recursive=True)
    following = batches.alias("following")
    # SQLite looks up the value of another column in an index only where the value has the form of an expression.
    place = tuple_(way.c.tenant_id + literal(""), way.c.waiting_for + literal(""))
    is_behind = tuple_(_C.tenant_id, _C.waiting_for) > place
    next_of_stage = first.where(_C.stage == way.c.stage, is_behind).correlate(way).scalar_subquery()
    steps = select(following.c.stage, following.c.tenant_id, following.c.waiting_for)
    return select(way.union_all(steps.join_from(way, following, following.c.seq == next_of_stage)))


_WAYS = _ways()


class SqlStages:
    """The part of `BatchStore` that finds batches by the work to do."""

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
        # Repair reads every row here, so only the columns that repair needs.
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
        """Return the batches with the nearest deadlines in the stages; at most `limit` rows per stage are read."""
        of_stage = [
            select(select(_C.seq).where(_C.stage == stage, is_wanted).order_by(*_BY_DEADLINE).limit(limit).subquery())
            for stage in stages
        ]
        query = select(batches).where(_C.seq.in_(union_all(*of_stage))).order_by(*_BY_DEADLINE).limit(limit)
        with reading(self._engine) as connection:
            return as_batches(connection.execute(query))
