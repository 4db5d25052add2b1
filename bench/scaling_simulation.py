"""Many workers on a fake clock: the real dispatch, upkeep and intake over the memory fakes, with costs as delays.

Real parts: `DispatchService`, `UpkeepService`, the window, every worker's `Taken`, and the rows of batches. Modelled
parts: a call takes time, a commit locks the rows of its batches in turn, control is a single core.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count

from app.domain import fairness
from app.domain.batch import Usage
from app.domain.lifecycle import Status
from app.domain.result import Result
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.dispatch import DispatchService
from app.services.ports import LineTask, Planned, Progress, Written
from app.services.sharing import window_lines
from app.services.upkeep import UpkeepService
from bench.scaling_fleet import Commits, Fleet, Ledger, LineQueue, Outcome, SimulatedWorker, new_batch, window_of
from bench.scaling_model import GATHER_S, REPAIR_EVERY_S
from tests.fakes.broker import MemoryRoster
from tests.fakes.database import MemoryDatabase
from tests.fakes.keys import MemoryIdempotencyStore
from tests.fakes.outside import FakeClock, MemoryBlobs
from tests.fakes.results import MemoryResultStore
from tests.fakes.stores import MemoryBatchStore, MemoryFileStore
from tests.fakes.trials import MemoryTrialStore

_BEAT_S = 1.0
_REFILL_APART_S = 0.05
_MAX_ROWS = 2_000
# Heartbeats within 0.2 s share a read of the roster: a read per worker would add cost, not information.
_SAME_ROSTER_S = 0.2
_NO_USAGE = Usage()


class Simulation:
    """Events in the order of a fake clock."""

    def __init__(self, fleet: Fleet, seed: int = 1) -> None:
        self.fleet = fleet
        self.outcome = Outcome()
        self._random = random.Random(seed)
        self._clock = FakeClock(0.0)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._queue = LineQueue()
        self._roster = MemoryRoster(self._clock)
        self._ask_again_at = 0.0
        self._db = MemoryDatabase()
        self._batches, self._results = MemoryBatchStore(self._db), MemoryResultStore(self._db)
        self._dispatch = DispatchService(self._batches, self._queue, self._roster, self._clock)
        self._upkeep = UpkeepService(
            self._batches,
            self._results,
            MemoryTrialStore(self._db),
            MemoryFileStore(self._db),
            MemoryIdempotencyStore(self._db),
            MemoryBlobs(self._clock),
            self._queue,
            self._roster,
            self._clock,
            self._dispatch,
            cancel_grace_s=30.0,
            finalize_max_tries=3,
        )
        self._workers = [SimulatedWorker(f"worker-{number}", fleet.concurrency) for number in range(fleet.workers)]
        # Workers with an open request for a message, the longest wait first, in the order of BRPOP.
        self._asking: deque[SimulatedWorker] = deque()
        self._commit_costs = Commits(fleet)
        self._control_free_at = 0.0
        self._control_s = 0.0
        self._ledger = Ledger(self.outcome)
        self._in_flight = 0
        self._busy = 0
        self._commits = self._refills = 0
        self._commit_wait_s = 0.0
        self._recorded = 0
        self._roster_read = (-1.0, 0)
        self._batch_numbers = count()

    def run(self, warm_s: float, measured_s: float) -> Outcome:
        """Run for `warm_s`, then measure for `measured_s`, in seconds of the fake clock."""
        with window_of(self.fleet.max_window):
            return self._run(warm_s, measured_s)

    def _run(self, warm_s: float, measured_s: float) -> Outcome:
        for _ in range(self.fleet.batches):
            self._add_batch()
        for worker in self._workers:
            self._at(self._random.random() * _BEAT_S, partial(self._beat, worker))
        self._at(_BEAT_S, partial(self._tick, self._refill, _BEAT_S))
        self._at(REPAIR_EVERY_S, partial(self._tick, self._repair, REPAIR_EVERY_S))
        self._run_until(warm_s)
        self._recorded = self._commits = self._refills = 0
        self._control_s = self._commit_wait_s = 0.0
        samples = self._sample(warm_s, measured_s)
        outcome = self.outcome
        outcome.lines_per_s = self._recorded / measured_s
        outcome.commits_per_s = self._commits / measured_s
        outcome.refills_per_s = self._refills / measured_s
        outcome.control_used = self._control_s / measured_s
        outcome.mean_commit_wait_s = self._commit_wait_s / max(self._recorded, 1)
        in_flight, busy = (sum(column) / len(samples) for column in zip(*samples, strict=True))
        alive = sum(worker.is_alive for worker in self._workers)
        outcome.slots_used = in_flight / (alive * self.fleet.concurrency)
        outcome.workers_idle = 1 - busy / alive
        for batch_id in list(self._ledger.started):
            self._ledger.close(batch_id, self._batches.find(batch_id), self._db.results.get(batch_id, {}))
        return outcome

    def kill(self, share: float, at_s: float) -> None:
        """Let a share of the workers vanish at `at_s`, with the tasks in their hands."""

        def vanish() -> None:
            for worker in self._workers[: round(share * len(self._workers))]:
                worker.is_alive = False
                self._in_flight -= self.fleet.concurrency - worker.free
                self._busy -= bool(worker.left)

        self._at(at_s, vanish)

    def _sample(self, start_s: float, seconds: float) -> list[tuple[int, int]]:
        samples = []
        for step in range(1, 101):
            self._run_until(start_s + seconds * step / 100)
            samples.append((self._in_flight, self._busy))
            running = [row.batch for row in self._db.active_batches() if row.batch.status is Status.IN_PROGRESS]
            outstanding = sum(batch.lines_outstanding for batch in running)
            self.outcome.most_outstanding = max(self.outcome.most_outstanding, outstanding)
            waiting = [batch.id for batch in running if batch.tasks_dispatched < batch.tasks]
            waits = [self._clock.now() - self._ledger.last_started_at[batch_id] for batch_id in waiting]
            self.outcome.longest_wait_of_a_batch_s = max(self.outcome.longest_wait_of_a_batch_s, *waits, 0.0)
        return samples

    def _at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), do))

    def _run_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            at, _, do = heapq.heappop(self._events)
            self._clock.advance(at - self._clock.now())
            do()
        self._clock.advance(end - self._clock.now())

    def _add_batch(self) -> None:
        batch_id, now = f"batch_{next(self._batch_numbers)}", self._clock.now()
        self._batches.add(new_batch(batch_id, now))
        planned = Planned("plan", self.fleet.lines_per_task, [(DEFAULT_UPSTREAM, self.fleet.lines_per_batch)], "model")
        self._batches.accept(batch_id, planned, now)
        self._ledger.open(batch_id, now)

    def _beat(self, worker: SimulatedWorker) -> None:
        if not worker.is_alive:
            return
        self._roster.report(worker.state(_BEAT_S))
        read_at, window = self._roster_read
        if self._clock.now() - read_at > _SAME_ROSTER_S or read_at < 0:
            window = window_lines(self._roster.workers())
            self._roster_read = (self._clock.now(), window)
        worker.window = self.outcome.window = window
        self._ask(worker)
        self._at(self._clock.now() + _BEAT_S, partial(self._beat, worker))

    def _tick(self, do: Callable[[], float], every_s: float) -> None:
        self._on_control(do)
        self._at(self._clock.now() + every_s, partial(self._tick, do, every_s))

    def _on_control(self, do: Callable[[], float]) -> None:
        def begin() -> None:
            # The decision takes effect now; the cost delays control's next work.
            seconds = do()
            self._control_s += seconds
            self._control_free_at = self._clock.now() + seconds
            self._at(self._control_free_at, self._deliver)

        self._control_free_at = start = max(self._control_free_at, self._clock.now())
        self._at(start, begin)

    def _refill(self) -> float:
        self._refills += 1
        self._queue.published_now = 0
        self._dispatch.refill()
        return self.fleet.refill_s + self._queue.published_now * self.fleet.publish_s

    def _repair(self) -> float:
        self._upkeep.repair()
        running = [row.batch for row in self._db.active_batches() if row.batch.status is Status.IN_PROGRESS]
        return self.fleet.bits_s * sum(batch.lines_outstanding > 0 for batch in running)

    def _ask(self, worker: SimulatedWorker) -> None:
        if worker.is_alive and not worker.is_asking and worker.has_room():
            worker.is_asking = True
            self._asking.append(worker)

    def _deliver(self) -> None:
        while self._asking and self._queue.line_tasks:
            worker = self._asking.popleft()
            worker.is_asking = False
            if not worker.is_alive or not worker.has_room():
                continue
            self._receive(worker, *self._queue.take())
            while self.fleet.takes_all and worker.has_room() and self._queue.line_tasks:
                self._receive(worker, *self._queue.take())
            self._ask(worker)

    def _receive(self, worker: SimulatedWorker, name: str, batch_id: str, task: LineTask) -> None:
        if name in worker.left or batch_id not in self._ledger.started:
            # A repeat of a task still held, or a task of an ended batch, returns at once.
            self._queue.drop_unacked([name])
            return
        positions = list(range(task.first, task.end))
        if self._ledger.started[batch_id][task.first]:
            done = self._results.recorded(batch_id, task.first, task.end)
            positions = [position for position in positions if position not in done]
        if not positions:
            self._queue.drop_unacked([name])
            return
        self._busy += not worker.left
        worker.taken.add(name)
        worker.room.take(len(positions))
        worker.left[name] = len(positions)
        worker.lines.extend((batch_id, position, name) for position in positions)
        self._start_calls(worker)

    def _start_calls(self, worker: SimulatedWorker) -> None:
        while worker.free and worker.lines:
            batch_id, position, name = worker.lines.popleft()
            worker.free -= 1
            self._in_flight += 1
            self._ledger.start(batch_id, position, self._clock.now())
            ends_at = self._clock.now() + self.fleet.call_s * (0.5 + self._random.random())
            result = Result(batch_id, position, True, b"", _NO_USAGE)
            self._at(ends_at, partial(self._answer, worker, result, name))

    def _answer(self, worker: SimulatedWorker, result: Result, name: str) -> None:
        if not worker.is_alive:
            return
        worker.free += 1
        self._in_flight -= 1
        worker.answered += 1
        worker.room.line_done()
        worker.results.append((self._clock.now(), result, name))
        if not worker.is_writing:
            worker.is_writing = True
            self._at(self._clock.now() + GATHER_S, partial(self._begin_commit, worker))
        self._start_calls(worker)
        self._ask(worker)
        self._deliver()

    def _begin_commit(self, worker: SimulatedWorker) -> None:
        if not worker.is_alive:
            return
        group, worker.results = worker.results[:_MAX_ROWS], worker.results[_MAX_ROWS:]
        rows = {result.batch_id for _, result, _ in group}
        end = self._commit_costs.end_of(self._clock.now(), rows, len(group))
        self._at(end, partial(self._end_commit, worker, group))

    def _end_commit(self, worker: SimulatedWorker, group: list[tuple[float, Result, str]]) -> None:
        progress = self._results.record([result for _, result, _ in group])
        self._commits += 1
        self._recorded += len(group)
        self._commit_wait_s += sum(self._clock.now() - answered_at for answered_at, _, _ in group)
        self._settle(worker, group)
        for each in progress:
            if each.is_recorded_whole:
                self._end_batch(each.batch_id)
        self._tell(worker, progress)
        worker.is_writing = bool(worker.results)
        if worker.is_writing:
            self._at(self._clock.now() + GATHER_S, partial(self._begin_commit, worker))

    def _settle(self, worker: SimulatedWorker, group: list[tuple[float, Result, str]]) -> None:
        for _, _, name in group:
            worker.left[name] -= 1
            if not worker.left[name]:
                del worker.left[name]
                worker.taken.remove(name)
                self._queue.drop_unacked([name])
                self._busy -= not worker.left

    def _tell(self, worker: SimulatedWorker, progress: list[Progress]) -> None:
        is_due = fairness.is_due(sum(batch.lines_outstanding for batch in progress), worker.window)
        if is_due and self._clock.now() >= self._ask_again_at and not all(b.is_dispatched_whole for b in progress):
            self._ask_again_at = self._clock.now() + _REFILL_APART_S
            self._on_control(self._refill)

    def _end_batch(self, batch_id: str) -> None:
        now = self._clock.now()
        self._batches.lease(batch_id, "finalizer")
        self._batches.seal(batch_id, "finalizer", now)
        self._batches.finish(batch_id, Written(None, None), "finalizer", now)
        self.outcome.batches_ended += 1
        self._ledger.close(batch_id, self._batches.find(batch_id), self._db.results.get(batch_id, {}))
        del self._db.results[batch_id], self._db.batches[batch_id]
        self._add_batch()
