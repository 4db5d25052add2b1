"""Each second: report this worker as alive with its held tasks, and learn of stopped batches.

Two threads: a slow database must not delay the report, and with the report the renewal of the lease.
"""

import threading
from collections.abc import Callable, Sequence

import structlog

from app.domain.lifecycle import Status
from app.services.ports import Roster, WorkerState
from app.services.sharing import window_lines
from app.services.ticks import EXPIRE, ControlClock
from app.wiring.stores import Stores
from workers.batches_in_hand import BatchesInHand
from workers.engine import LineEngine
from workers.lane import Lane
from workers.lease import Lease
from workers.taken import Taken
from workers.vital_thread import vital_thread

log = structlog.get_logger()

_BEAT_S = 1.0
# After _HURRY_S, report a pace of _HURRY_AT times the last report, so that the window grows with the pace.
_HURRY_S, _HURRY_AT = 0.1, 1.5
_STOP_WAIT_S = 5.0
# Interval between log entries, with traceback, on a beat missed every second.
_TELL_EVERY_S = 30.0
# A larger share is used one interval later, once every worker has read the reports in between.
_SHARE_EVERY_S = 0.9 * _BEAT_S


class Heartbeat:
    """Keeps this worker's entry in the roster, and follows the status of its batches."""

    def __init__(
        self,
        name: str,
        roster: Roster,
        stores: Stores,
        clock: ControlClock,
        taken: Taken,
        lanes: Sequence[Lane],
        engine: LineEngine,
        batches: BatchesInHand,
        lease: Lease,
        *,
        cancel_grace_s: float,
    ) -> None:
        self._name = name
        self._roster = roster
        self._stores = stores
        self._clock = clock
        self._taken = taken
        self._lanes = lanes
        self._engine = engine
        self._batches = batches
        self._lease = lease
        self._cancel_grace_s = cancel_grace_s
        self._stopping = threading.Event()
        # Set to make the next report at once, and while the process ends.
        self._hurry = threading.Event()
        self._threads = [
            vital_thread("heartbeat", lambda: self._repeat(self.report, self._hurry)),
            vital_thread("follower", lambda: self._repeat(self.follow, self._stopping)),
        ]
        self._shared_at = float("-inf")
        # When a missed beat was last logged, by the beat's name.
        self._told_at: dict[str, float] = {}
        # Lines that dispatch keeps published for an upstream, for all workers together.
        self.windows: dict[str, int] = {}
        # Number of live workers.
        self.workers = 1

    def start(self) -> None:
        """Report once, then start the threads."""
        self._attempt(self.report)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads and leave the roster."""
        self._stopping.set()
        self._hurry.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_STOP_WAIT_S)
        try:
            self._roster.leave(self._name)
        except Exception:
            log.warning("worker.not_left", exc_info=True)

    def progressed(self) -> None:
        """Report before the second is over if lines have become far faster; thread-safe."""
        if any(lane.has_sped_up(_HURRY_S, _HURRY_AT) for lane in self._lanes):
            self._hurry.set()

    def report(self) -> None:
        """Report this worker as alive, which extends the lease."""
        lanes = {lane.name: lane.measure() for lane in self._lanes}
        # Clear the flag only now: the report answers requests made up to this point.
        self._hurry.clear()
        reported_at = self._lease.now()
        self._roster.report(WorkerState(self._name, self._taken.task_ids(), lanes))
        if self._lease.extend(reported_at):
            self._engine.let_go()
        workers = self._roster.workers()
        self.workers = len(workers)
        self.windows = {lane.name: window_lines(workers, lane.name) for lane in self._lanes}
        self._share_out(sorted(workers, key=lambda worker: worker.name))

    def _share_out(self, workers: Sequence[WorkerState]) -> None:
        now, names = self._lease.now(), [worker.name for worker in workers]
        # Early reports are due to the pace of lines, not to workers joining or leaving: shares stay as they are.
        if self._name in names and now - self._shared_at >= _SHARE_EVERY_S:
            self._shared_at = now
            self._engine.share_out(names.index(self._name), [worker.lanes for worker in workers])

    def follow(self) -> None:
        """Stop batches that no longer run, and cancel their calls after the grace period."""
        running = [batch.id for batch in self._batches.all() if not batch.is_stopped]
        statuses = self._stores.batches.statuses(running) if running else {}
        if running:
            self._clock.hear(self._stores.ticks.clock(EXPIRE))
        now = self._stores.clock.monotonic()
        for batch in self._batches.all():
            if batch.id in running and statuses.get(batch.id) is not Status.IN_PROGRESS:
                batch.aborts_at = now + self._cancel_grace_s
                self._engine.stop_batch(batch)
            elif batch.is_stopped and now >= batch.aborts_at:
                self._engine.abort_batch(batch)
                self._batches.forget(batch)

    def _repeat(self, act: Callable[[], None], wake: threading.Event) -> None:
        while True:
            wake.wait(_BEAT_S)
            if self._stopping.is_set():
                return
            self._attempt(act)

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            # The broker or the database is away: calls in flight go on, and the next beat follows in a second.
            beat, now = act.__name__, self._lease.now()
            if now - self._told_at.get(beat, float("-inf")) >= _TELL_EVERY_S:
                self._told_at[beat] = now
                log.warning("worker.beat_missed", beat=beat, exc_info=True)
