"""Who has what of the window, by the rows of running batches and the reports of workers; changes nothing."""

from collections.abc import Sequence
from typing import NamedTuple

from app.domain.batch import Batch, RunningTotal
from app.domain.fairness import RunningBatch, Sharing, Weights, Window
from app.services.ports import BatchStore, Clock, Roster, WorkerState

# Lines published and not done, for each call that the workers can have in flight. With 2 the calls never ran out either
# (0.999 of an upstream's capacity used); what is more than that is what a small batch waits behind.
_WINDOW_PER_SLOT = 2.5
# A fast upstream empties that in no time: the window also holds this much of what was done lately.
_WINDOW_S = 0.5
# Lines that wait to be tried again widen the window, for they keep no call from the others. But each holds its message,
# and a worker takes a bounded number of those: a batch whose model is away must never fill them all.
_PAUSED_PER_SLOT = 8
# A batch of which nothing was sent counts as new for so long. It goes before others, and a tenant with a hundred of
# them that wait their turn would gain by it all the time.
_NEW_S = 2.0
# Bounds what the broker holds (about 1.3 kB a task) at one line a task.
_MAX_WINDOW = 20_000
# Before a worker reports, a first helping waits for it.
_WINDOW_WITHOUT_WORKERS = 256
# Of more batches that have lines left to send, these get some: of each tenant those with the nearest deadlines.
MOST_BATCHES = 200


class Look(NamedTuple):
    """What there was at one moment, and how the window is shared out by it."""

    at: float
    # Those that have lines left to send.
    batches: list[Batch]
    workers: list[WorkerState]
    sharing: Sharing


class SharingService:
    """Looks at what runs, and changes nothing."""

    def __init__(self, batches: BatchStore, roster: Roster, clock: Clock, weights: Weights) -> None:
        self._batches = batches
        self._roster = roster
        self._clock = clock
        self.weights = weights

    def look(self) -> Look:
        """Return how the window is shared out now."""
        batches = self._batches.undispatched(MOST_BATCHES)
        others = _others(self._batches.running_totals(), batches)
        workers, now = self._roster.workers(), self._clock.now()
        running = [_running_batch(batch, now) for batch in batches]
        return Look(now, batches, workers, Sharing(running, window_of(workers), self.weights, now, others))


def window_of(workers: Sequence[WorkerState]) -> Window:
    """Return the window for these workers together."""
    if not workers:
        return Window(_WINDOW_WITHOUT_WORKERS, _WINDOW_WITHOUT_WORKERS)
    slots = sum(worker.concurrency for worker in workers)
    lines_per_s = sum(worker.lines_per_s for worker in workers)
    # All of them: a batch that begins beside those that wait is measured against what they really have.
    lines_paused = sum(worker.lines_paused for worker in workers)
    lines_moving = int(min(max(_WINDOW_PER_SLOT * slots, _WINDOW_S * lines_per_s), _MAX_WINDOW))
    lines = min(lines_moving + min(lines_paused, _PAUSED_PER_SLOT * slots), _MAX_WINDOW)
    return Window(lines, lines_moving, lines_paused, len(workers))


def window_reason(look: Look) -> str:
    """Return in words what makes the window as large as it is."""
    workers, window = look.workers, look.sharing.window
    if not workers:
        return "no worker has reported lately: a first helping waits for one"
    slots = sum(worker.concurrency for worker in workers)
    lines_per_s = sum(worker.lines_per_s for worker in workers)
    if window.lines_moving > window_of(workers).lines_moving:
        reason = f"a task for each of {len(workers)} workers"
    elif window.lines_moving >= _MAX_WINDOW:
        reason = "the most that the broker is to hold"
    elif _WINDOW_S * lines_per_s > _WINDOW_PER_SLOT * slots:
        reason = f"what the workers answer in {_WINDOW_S:g} s, at {lines_per_s:,.0f} lines/s"
    else:
        reason = f"{_WINDOW_PER_SLOT:g} lines for each of {slots:,} calls that may be in flight"
    widened = window.lines - window.lines_moving
    return f"{reason}, and {widened:,} of those that wait for a retry" if widened else reason


def _others(totals: dict[str, RunningTotal], batches: list[Batch]) -> dict[str, RunningTotal]:
    """Return what each tenant has running beside these batches."""
    others = dict(totals)
    for batch in batches:
        count, lines = others.get(batch.tenant_id, RunningTotal())
        # Results that were recorded between the two reads are in one of them only.
        others[batch.tenant_id] = RunningTotal(max(count - 1, 0), max(lines - batch.lines_outstanding, 0))
    return others


def _running_batch(batch: Batch, now: float) -> RunningBatch:
    return RunningBatch(
        batch.id,
        batch.tenant_id,
        batch.lines_outstanding,
        batch.total - batch.lines_dispatched,
        batch.lines_per_task,
        batch.created_at,
        batch.expires_at,
        is_new=batch.tasks_dispatched == 0 and now - (batch.in_progress_at or 0.0) < _NEW_S,
    )
