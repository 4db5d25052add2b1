"""The shares of the dispatch window, from the outstanding lines of each tenant and each batch.

    tenants    by weight: the next turn goes to the tenant with the fewest lines outstanding for its weight
    batches    of a tenant, in the same way: by a weight that rises as a batch's deadline comes nearer

No state is kept between two calls: the outstanding lines are in the rows of the batches.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heapify, heappop, heapreplace
from types import MappingProxyType
from typing import NamedTuple

from app.domain.batch import RunningTotal
from app.domain.max_min import max_min
from app.domain.standings import BatchStanding, RunningBatch, TenantStanding

# The time left of a batch counts as at least this part of the window: a nearer deadline weighs no more.
_LEAST_LEFT = 0.01
# Refill a quarter at a time: fewer, larger refills than at each line, and three quarters keep the workers busy.
_DUE_AT = 0.75
# A turn gives at most this part of the window, or a whole task if a task is more. A batch that gets lines costs a
# transaction: a hundred batches with a line each would be refilled more slowly than the workers finish lines.
_TURN_PART = 1 / 32
# How far over its share a tenant may go for a new batch of its own. Weights should hold within 10 %, also for a tenant
# that submits small batches one after the other. In a slow window, a tenant may go as far for a batch without
# outstanding lines, because hanging lines stay outstanding for hours.
_TENANT_MOST = 1.1
# How far over its share a tenant may go, in a slow window, for batches that have waited without outstanding lines
# beside batches over their share.
_CROWDED_MOST = 2.0


class Window(NamedTuple):
    """The limit on outstanding lines: `lines` in total, `lines_moving` without lines that wait for a retry."""

    lines: int
    lines_moving: int
    # Workers report this number each second, and not by batch.
    lines_paused: int = 0
    workers: int = 0
    # Answers come so slowly that the window may hold lines that hang.
    is_slow: bool = False


@dataclass(frozen=True)
class Weights:
    """The operator's choices: weights of tenants, by default 1, and how much a near deadline counts."""

    tenants: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    deadline: float = 1.0

    def of_tenant(self, tenant_id: str) -> float:
        """Return the tenant's weight."""
        return self.tenants.get(tenant_id, 1.0)

    def of_batch(self, batch: RunningBatch, now: float) -> float:
        """Return (window ÷ time left) to the power of the deadline's weight: 1 at first, at most 100 to that power."""
        return self.of_deadline(batch.created_at, batch.expires_at, now)

    def of_deadline(self, created_at: float, expires_at: float, now: float) -> float:
        """Return the weight of a batch, from the instants of creation and expiry."""
        window_s = max(expires_at - created_at, 1.0)
        left_s = min(max(expires_at - now, _LEAST_LEFT * window_s), window_s)
        return float((window_s / left_s) ** self.deadline)


class Why(StrEnum):
    """The rule by which a batch gets a task."""

    ROOM = "the window has room"
    TENANT_SHARE = "its tenant has less than half of its share"
    BATCH_SHARE = "it has less than half of its share"
    WAITS = "waits for room"


class Turn(NamedTuple):
    """The next tasks of a batch, their lines together, and the rule."""

    batch_id: str
    tasks: int
    lines: int
    why: Why


class Sharing:
    """The window shared among running batches: the standings, and the next turns."""

    def __init__(
        self,
        running: Sequence[RunningBatch],
        window: Window,
        weights: Weights,
        now: float,
        others: Mapping[str, RunningTotal] | None = None,
    ) -> None:
        # However few lines the window has, each worker should have a task.
        task_lines = max((batch.lines_per_task for batch in running if batch.lines_waiting), default=0)
        missing = max(window.workers * task_lines - window.lines_moving, 0)
        self.window = window._replace(lines=window.lines + missing, lines_moving=window.lines_moving + missing)
        most_lines = int(self.window.lines_moving * _TURN_PART)
        others = others or {}
        by_tenant: dict[str, list[RunningBatch]] = {tenant_id: [] for tenant_id in others}
        for batch in sorted(running, key=lambda batch: (batch.expires_at, batch.created_at, batch.id)):
            by_tenant.setdefault(batch.tenant_id, []).append(batch)
        self.tenants = [
            _tenant(tenant_id, batches, others.get(tenant_id, RunningTotal()), weights, now, most_lines)
            for tenant_id, batches in sorted(by_tenant.items())
        ]
        self.outstanding = sum(tenant.outstanding for tenant in self.tenants)
        demands = [(tenant.weight, tenant.outstanding + tenant.waiting) for tenant in self.tenants]
        for tenant, share in zip(self.tenants, max_min(demands, window.lines_moving), strict=True):
            tenant.share = share
            parts = [(standing.weight, standing.outstanding + standing.waiting) for standing in tenant.batches]
            # The batches outside the look count as an additional batch.
            parts.append((1.0, tenant.others.lines_outstanding))
            *shares, tenant.share_of_others = max_min(parts, share)
            for standing, part in zip(tenant.batches, shares, strict=True):
                standing.share = part

    @property
    def new(self) -> set[str]:
        """The ids of the new batches."""
        return {each.batch.id for tenant in self.tenants for each in tenant.batches if each.batch.is_new}

    def turns(self) -> Iterator[Turn]:
        """Yield the turns due now, at most one past each bound; the standings change with the turns."""
        yield from self._fill_window()
        for tenant in self.tenants:
            if tenant.is_short:
                yield from self._fill_tenant(tenant)
        for tenant in self.tenants:
            yield from self._fill_batches(tenant)

    def turns_later(self) -> Iterator[Turn]:
        """Yield the later turns, as room comes up, until no line waits."""
        yield from self._by_level(Why.WAITS)

    def _fill_window(self) -> Iterator[Turn]:
        if is_due(self.outstanding, self.window.lines):
            yield from self._by_level(Why.ROOM, self.window.lines - self.outstanding)

    def _by_level(self, why: Why, room: float = math.inf) -> Iterator[Turn]:
        for tenant in self.tenants:
            tenant.turns = _turns(tenant.batches)
        order = [(tenant.level, number) for number, tenant in enumerate(self.tenants) if tenant.turns]
        heapify(order)
        while order and room > 0:
            number = order[0][1]
            tenant = self.tenants[number]
            turn = _give_next(tenant, why, room)
            room -= turn.lines
            if tenant.turns:
                heapreplace(order, (tenant.level, number))
            else:
                heappop(order)
            yield turn

    def _fill_tenant(self, tenant: TenantStanding) -> Iterator[Turn]:
        # A tenant with only hanging lines must not keep the window from other tenants.
        while tenant.turns and (
            tenant.outstanding == 0 or tenant.outstanding + tenant.next_batch.turn_lines / 2 <= tenant.share
        ):
            yield _give_next(tenant, Why.TENANT_SHARE)

    def _fill_batches(self, tenant: TenantStanding) -> Iterator[Turn]:
        # A small new batch gets its share at once; and a batch with only paused lines must not keep the tenant's share
        # from the tenant's other batches.
        paused = self.window.lines_paused
        # With most of the window held by batches over their shares, no answer of other batches makes a refill due.
        is_held = tenant.held_over_shares > _DUE_AT * self.window.lines_moving
        is_slow = self.window.is_slow or is_held
        short = [each for each in tenant.batches if each.is_short and (each.batch.is_new or paused or is_slow)]
        most_waited = tenant.share * (_CROWDED_MOST if tenant.is_crowded else _TENANT_MOST) + paused
        for standing in sorted(short, key=lambda each: (not each.batch.is_young, not each.batch.is_new, each.level)):
            # The same holds where lines hang, a turn at a time, because the lines of other batches may come back in a
            # moment.
            has_waited = not standing.batch.is_young and standing.outstanding == 0
            if is_slow and has_waited and tenant.outstanding < most_waited:
                yield _give(tenant, standing, Why.BATCH_SHARE)
            if not standing.batch.is_new and not paused:
                continue
            most = tenant.share * (_TENANT_MOST if standing.batch.is_new else 1.0) + paused
            while (
                standing.waiting
                and tenant.outstanding < most
                and (standing.outstanding == 0 or standing.outstanding + standing.turn_lines / 2 <= standing.share)
            ):
                yield _give(tenant, standing, Why.BATCH_SHARE)


def is_due(outstanding: int, window_lines: int) -> bool:
    """Return whether enough of the window is free to fill it again."""
    return outstanding <= _DUE_AT * window_lines


def _tenant(
    tenant_id: str, batches: list[RunningBatch], others: RunningTotal, weights: Weights, now: float, most_lines: int
) -> TenantStanding:
    standings = [
        BatchStanding(
            batch,
            weights.of_batch(batch, now),
            batch.lines_outstanding,
            batch.lines_waiting,
            tasks_a_turn=max(most_lines // batch.lines_per_task, 1),
        )
        for batch in batches
    ]
    outstanding = others.lines_outstanding + sum(batch.lines_outstanding for batch in batches)
    tenant = TenantStanding(tenant_id, weights.of_tenant(tenant_id), standings, others, outstanding=outstanding)
    tenant.turns = _turns(standings)
    return tenant


def _turns(standings: Sequence[BatchStanding]) -> list[tuple[float, int]]:
    turns = [(standing.level, number) for number, standing in enumerate(standings) if standing.waiting]
    heapify(turns)
    return turns


def _give_next(tenant: TenantStanding, why: Why, room: float = math.inf) -> Turn:
    number = tenant.turns[0][1]
    standing = tenant.batches[number]
    turn = _give(tenant, standing, why, room)
    if standing.waiting:
        heapreplace(tenant.turns, (standing.level, number))
    else:
        heappop(tenant.turns)
    return turn


def _give(tenant: TenantStanding, standing: BatchStanding, why: Why, room: float = math.inf) -> Turn:
    per_task = standing.batch.lines_per_task
    tasks = math.ceil(min(standing.turn_lines, room) / per_task)
    lines = min(tasks * per_task, standing.waiting)
    standing.outstanding += lines
    standing.waiting -= lines
    tenant.outstanding += lines
    return Turn(standing.batch.id, tasks, lines, why)
