"""How the dispatch window is shared, from the rows of running batches and the workers' reports; changes nothing."""

from collections.abc import Sequence
from typing import NamedTuple

from app.domain.batch import Batch, RunningTotal, Section
from app.domain.fairness import Sharing, Weights, Window
from app.domain.standings import RunningBatch
from app.domain.stranded import Stranded, find_stranded
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import BatchStore, Clock, LaneState, Roster, WorkerState

# Lines published and not done, for each call that the workers can have in flight. With 2, too, the calls never ran out
# (0.999 of an upstream's capacity used); a small batch waits behind every line beyond.
_WINDOW_PER_SLOT = 2.5
# A full window that would take longer than this to empty may hold lines that hang.
_SLOW_S = 10.0
# A fast upstream empties such a window in no time: the window also holds this many seconds of recent throughput.
_WINDOW_S = 0.5
# Lines that wait for a retry widen the window: paused lines keep no call from other lines. But a paused line holds its
# message, and a worker takes a bounded number of messages: a batch for a model that is away must never use up the
# number.
_PAUSED_PER_SLOT = 8
# A batch is new for this many seconds, and only while fewer lines than this were sent. New batches go first, so without
# the two limits a tenant with a hundred waiting batches would always gain. A tenant's newest batch with no line sent is
# new for as long as needed: no batch must depend on a refill in the moment after its creation.
_NEW_S = 1.0
_NEW_LINES = 10
# Bounds the broker's content (about 1.3 kB a task) at one line a task.
_MAX_WINDOW = 20_000
# Before a worker reports, a first helping of lines waits for the worker.
_WINDOW_WITHOUT_WORKERS = 256
# The most batches with lines left to send in a look; some new batches come on top.
MOST_BATCHES = 200


class LaneLook(NamedTuple):
    """How the window of an upstream is shared."""

    upstream: str
    sharing: Sharing
    # The reports of the workers that call the upstream.
    lanes: list[LaneState]


class Look(NamedTuple):
    """The state at one moment."""

    at: float
    # Batches with lines left to send.
    batches: list[Batch]
    lanes: list[LaneLook]


class SharingService:
    """Looks at running batches, and changes nothing."""

    def __init__(
        self,
        batches: BatchStore,
        roster: Roster,
        clock: Clock,
        weights: Weights,
        upstreams: Sequence[str] = (DEFAULT_UPSTREAM,),
    ) -> None:
        self._batches = batches
        self._roster = roster
        self._clock = clock
        self.weights = weights
        self._upstreams = upstreams

    def look(self) -> Look:
        """Return how the windows are shared now."""
        batches = self._batches.undispatched(MOST_BATCHES)
        others = _others(self._batches.outstanding_totals(), batches)
        workers, now = self._roster.workers(), self._clock.now()
        return Look(now, batches, [self._look_at(name, batches, others, workers, now) for name in self._upstreams])

    def stranded(self) -> list[Stranded]:
        """Return the work that waits for upstreams outside the configuration."""
        return find_stranded(self._batches.bound_elsewhere(self._upstreams))

    def _look_at(
        self,
        upstream: str,
        batches: list[Batch],
        others: dict[tuple[str, str], RunningTotal],
        workers: list[WorkerState],
        now: float,
    ) -> LaneLook:
        sections = [(batch, part) for batch in batches for part in batch.sections if part.upstream == upstream]
        newest = _newest(sections)
        running = [_running_batch(batch, section, now, newest) for batch, section in sections]
        of_tenants = {tenant_id: total for (name, tenant_id), total in others.items() if name == upstream}
        lanes = lanes_of(workers, upstream)
        return LaneLook(upstream, Sharing(running, window_of(lanes), self.weights, now, of_tenants), lanes)


def lanes_of(workers: Sequence[WorkerState], upstream: str) -> list[LaneState]:
    """Return the workers' reports about their calls to an upstream."""
    return [worker.lanes[upstream] for worker in workers if upstream in worker.lanes]


def window_lines(workers: Sequence[WorkerState], upstream: str = DEFAULT_UPSTREAM) -> int:
    """Return how many lines for an upstream should be published and not done, for these workers together."""
    return window_of(lanes_of(workers, upstream)).lines


def window_of(lanes: Sequence[LaneState]) -> Window:
    """Return the window of an upstream, from the reports of the workers that call it."""
    if not lanes:
        return Window(_WINDOW_WITHOUT_WORKERS, _WINDOW_WITHOUT_WORKERS)
    slots = sum(lane.slots for lane in lanes)
    lines_per_s = sum(lane.lines_per_s for lane in lanes)
    # Without the cap: a new batch beside paused batches is measured against their real number of lines.
    lines_paused = sum(lane.lines_paused for lane in lanes)
    lines_moving = int(min(max(_WINDOW_PER_SLOT * slots, _WINDOW_S * lines_per_s), _MAX_WINDOW))
    lines = min(lines_moving + min(lines_paused, _PAUSED_PER_SLOT * slots), _MAX_WINDOW)
    return Window(lines, lines_moving, lines_paused, len(lanes), is_slow=lines_moving > _SLOW_S * lines_per_s)


def window_reason(look: LaneLook) -> str:
    """Return in words the reason for the size of the window."""
    lanes, window = look.lanes, look.sharing.window
    if not lanes:
        return "no worker has reported lately: a first helping waits for one"
    slots = sum(lane.slots for lane in lanes)
    lines_per_s = sum(lane.lines_per_s for lane in lanes)
    if window.lines_moving > window_of(lanes).lines_moving:
        reason = f"a task for each of {len(lanes)} workers"
    elif window.lines_moving >= _MAX_WINDOW:
        reason = "the most that the broker is to hold"
    elif _WINDOW_S * lines_per_s > _WINDOW_PER_SLOT * slots:
        reason = f"what the workers answer in {_WINDOW_S:g} s, at {lines_per_s:,.0f} lines/s"
    else:
        reason = f"{_WINDOW_PER_SLOT:g} lines for each of {slots:,} calls that may be in flight"
    widened = window.lines - window.lines_moving
    return f"{reason}, and {widened:,} of those that wait for a retry" if widened else reason


def _others(totals: dict[tuple[str, str], RunningTotal], batches: list[Batch]) -> dict[tuple[str, str], RunningTotal]:
    """Return the running totals of tenants by upstream, without the given batches."""
    others = dict(totals)
    for batch in batches:
        for section in batch.sections:
            key = (section.upstream, batch.tenant_id)
            count, lines = others.get(key, RunningTotal())
            if outstanding := section.outstanding(batch.lines_per_task):
                # Results recorded between the two reads are in only one of the reads.
                others[key] = RunningTotal(max(count - 1, 0), max(lines - outstanding, 0))
    return others


def _newest(sections: Sequence[tuple[Batch, Section]]) -> set[str]:
    """Return each tenant's newest batch with no line sent."""
    unsent = [batch for batch, section in sections if section.next_task == section.first_task]
    unsent.sort(key=lambda batch: (batch.in_progress_at or 0.0, batch.created_at))
    return set({batch.tenant_id: batch.id for batch in unsent}.values())


def _running_batch(batch: Batch, section: Section, now: float, newest: set[str]) -> RunningBatch:
    per_task = batch.lines_per_task
    is_young = now - (batch.in_progress_at or 0.0) < _NEW_S and section.dispatched(per_task) < _NEW_LINES
    return RunningBatch(
        batch.id,
        batch.tenant_id,
        section.outstanding(per_task),
        section.waiting(per_task),
        per_task,
        batch.created_at,
        batch.expires_at,
        is_young,
        is_new=is_young or batch.id in newest,
    )
