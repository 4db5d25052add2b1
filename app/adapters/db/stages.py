"""Finds the batches for upkeep, and the sections for dispatch, every second or so, by indexes on the columns `stage`.

Apart from a few rows, a query here reads only the rows to return: neither the ended batches nor every running batch.
PostgreSQL may read the table of sections whole for all outstanding lines and for all upstreams: 4 ms for 20,000
sections, and ended batches have none.
"""

from collections.abc import Collection
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, and_, bindparam, case, func, literal, select, tuple_, union_all

from app.adapters.db.batch_row import SECTION, read_batches, section_of, select_batches
from app.adapters.db.engine import reading
from app.adapters.db.tables import batches, sections
from app.domain.batch import Batch, InFlight, RunningTotal
from app.domain.lifecycle import Status
from app.domain.looks import Waiting, choose, choose_newest
from app.services.ports import Lease

# The stages of a section. New: no line is handed out. Idle: every line handed out has a result. Sending: lines handed
# out lack a result. Sent: every line is handed out and lines lack a result.
NEW, IDLE, SENDING, SENT = "new", "idle", "sending", "sent"
# Stages of a batch beside statuses. Recorded: in progress, and every line has a result. Uncleared: the batch has ended
# with its files, and the results are not deleted yet.
RECORDED, UNCLEARED = "recorded", "uncleared"

_UNDISPATCHED = (NEW, IDLE, SENDING)
_UNRECORDED = (NEW, IDLE, SENDING, SENT)
_EXPIRABLE = (Status.VALIDATING, Status.IN_PROGRESS, RECORDED)
# Only control continues batches in these stages.
_STALLED = (Status.VALIDATING, RECORDED, Status.FINALIZING, Status.CANCELLING, Status.EXPIRING)
_ACTIVE = (Status.IN_PROGRESS, *_STALLED)

# A group of waiting batches may offer this many times the group's share of the places, because other groups may leave
# places free.
_SPARE = 4
# Besides the places by deadline, the newest batches get one place in this many.
_NEWEST_PART = 8

_C = batches.c
_BY_DEADLINE = (_C.expires_at, _C.seq)
_S = sections.c
_WAY_BY_DEADLINE = (_S.expires_at, _S.seq)
_SENT_LINES = case(
    (_S.next_task >= _S.end_task, _S.end_line - _S.first_line),
    else_=(_S.next_task - _S.first_task) * _S.lines_per_task,
)
_OUTSTANDING = _SENT_LINES - _S.completed - _S.failed
_OF_WAY = and_(
    _S.stage == bindparam("stage"), _S.tenant_id == bindparam("tenant_id"), _S.upstream == bindparam("upstream")
)
_KEYS = select(_S.seq, _S.tenant_id, _S.upstream, _S.expires_at)
_NEAREST = _KEYS.where(_OF_WAY).order_by(*_WAY_BY_DEADLINE).limit(bindparam("limit"))
_NEWEST = _KEYS.where(_OF_WAY).order_by(_S.seq.desc()).limit(bindparam("limit"))


def _ways() -> Select[Any]:
    """Select each stage, tenant and upstream with a section waiting to be handed out, by steps in the index.

    Each step starts behind the sections of the previous group, and reads no row in between.
    """
    first = select(_S.id).order_by(_S.stage, _S.tenant_id, _S.upstream, *_WAY_BY_DEADLINE).limit(1)
    starts = [first.where(_S.stage == stage).scalar_subquery() for stage in _UNDISPATCHED]
    way = select(_S.stage, _S.tenant_id, _S.upstream).where(_S.id.in_(starts)).cte("way", recursive=True)
    following = sections.alias("following")
    # SQLite looks up the value of another column in an index only where the value has the form of an expression.
    place = tuple_(way.c.tenant_id + literal(""), way.c.upstream + literal(""))
    is_behind = tuple_(_S.tenant_id, _S.upstream) > place
    next_of_stage = first.where(_S.stage == way.c.stage, is_behind).correlate(way).scalar_subquery()
    steps = select(following.c.stage, following.c.tenant_id, following.c.upstream)
    return select(way.union_all(steps.join_from(way, following, following.c.id == next_of_stage)))


_WAYS = _ways()
_IS_CHOSEN = _C.seq.in_(bindparam("chosen", expanding=True))
_CHOSEN = select_batches(_IS_CHOSEN, *_BY_DEADLINE)
# Repair reads every row here, so only the columns that repair needs.
_IN_FLIGHT = (
    select(_S.batch_id, _S.lines_per_task, _S.batch_tasks, *SECTION)
    .where(_S.stage.in_((SENDING, SENT)))
    .order_by(*_WAY_BY_DEADLINE, _S.number)
)
_TOTALS = (
    select(_S.upstream, _S.tenant_id, func.count(), func.sum(_OUTSTANDING))
    .where(_S.stage.in_((SENDING, SENT)))
    .group_by(_S.upstream, _S.tenant_id)
)


class SqlStages:
    """The part of `BatchStore` that finds batches, by their work or by the work of their sections."""

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
            return set(connection.scalars(select(_C.id).where(_C.stage.in_(_ACTIVE))))

    def count_active(self) -> dict[Status, int]:
        query = select(_C.status, func.count()).where(_C.stage.in_(_ACTIVE)).group_by(_C.status)
        with reading(self._engine) as connection:
            return {Status(status): count for status, count in connection.execute(query)}

    def bound_elsewhere(self, upstreams: Collection[str]) -> list[tuple[str, str, int]]:
        unrecorded = _S.end_line - _S.first_line - _S.completed - _S.failed
        query = select(_S.upstream, _S.batch_id, unrecorded).where(_S.stage.in_(_UNRECORDED))
        query = query.where(_S.upstream.not_in(sorted(upstreams))).order_by(*_WAY_BY_DEADLINE)
        with reading(self._engine) as connection:
            return [(name, batch_id, lines) for name, batch_id, lines in connection.execute(query)]

    def in_flight(self) -> list[InFlight]:
        with reading(self._engine) as connection:
            rows = connection.execute(_IN_FLIGHT).all()
        return [
            InFlight(*batch, tuple(section_of(row[3:]) for row in of_batch))
            for batch, of_batch in groupby(rows, lambda row: (row.batch_id, row.lines_per_task, row.batch_tasks))
        ]

    def outstanding_totals(self) -> dict[tuple[str, str], RunningTotal]:
        with reading(self._engine) as connection:
            rows = connection.execute(_TOTALS)
            return {(name, tenant): RunningTotal(count, int(lines)) for name, tenant, count, lines in rows}

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
            return read_batches(connection, _CHOSEN, {"chosen": sorted(chosen)})

    def _nearest(self, stages: Collection[str], is_wanted: ColumnElement[bool], limit: int) -> list[Batch]:
        """Return the batches with the nearest deadlines in the stages; at most `limit` rows per stage are read."""
        of_stage = [
            select(select(_C.seq).where(_C.stage == stage, is_wanted).order_by(*_BY_DEADLINE).limit(limit).subquery())
            for stage in stages
        ]
        query = select_batches(_C.seq.in_(union_all(*of_stage)), *_BY_DEADLINE)
        with reading(self._engine) as connection:
            return read_batches(connection, query)[:limit]
