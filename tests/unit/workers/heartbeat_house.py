"""A heartbeat whose beats are a test's."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

from app.domain.concurrency import ConcurrencyLimit
from app.domain.rates import RateLimit
from app.domain.retry import RetryPolicy
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.execution import ExecutionService
from app.services.ports import LaneState, Planned, WorkerState
from app.services.ticks import ControlClock
from tests.fakes.broker import MemoryRoster
from tests.fakes.outside import FakeClock
from tests.fakes.stores import MemoryBatchStore
from tests.fakes.ticks import MemoryTickStore
from tests.unit.services.pipeline_house import NOW, new_batch
from tests.unit.workers.engine_house import HeldUpstream
from workers.batches_in_hand import BatchesInHand, BatchInHand
from workers.heartbeat import Heartbeat
from workers.lane import Lane
from workers.lease import Lease
from workers.taken import Taken

GRACE_S = 30.0


class RecordingEngine:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.aborted: list[str] = []
        self.lapses = 0
        self.shares: list[tuple[int, int]] = []
        self.states: Sequence[Mapping[str, LaneState]] = ()

    def share_out(self, place: int, states: Sequence[Mapping[str, LaneState]]) -> None:
        self.shares.append((place, len(states)))
        self.states = states

    def let_go(self) -> None:
        self.lapses += 1

    def stop_batch(self, batch: BatchInHand) -> None:
        batch.is_stopped = True
        self.stopped.append(batch.id)

    def abort_batch(self, batch: BatchInHand) -> None:
        self.aborted.append(batch.id)


class House:
    """A heartbeat whose beats are the test's: its thread is never started."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.roster = MemoryRoster(self.clock)
        self.store = MemoryBatchStore()
        self.ticks = MemoryTickStore()
        self.control_clock = ControlClock(self.clock.monotonic)
        self.batches = BatchesInHand(self.store)
        self.engine = RecordingEngine()
        self.taken = Taken()
        self.lane = Lane(
            "default",
            HeldUpstream(),
            ConcurrencyLimit(4),
            RateLimit(None, None),
            concurrency=4,
            max_in_flight=None,
            call_timeout_s=60,
            execution=lambda upstream: ExecutionService(upstream, self.clock, RetryPolicy(), call_timeout_s=60),
        )
        self.lease = Lease(self.clock.now)
        self.heartbeat = Heartbeat(
            "worker-1",
            self.roster,
            SimpleNamespace(batches=self.store, clock=self.clock, ticks=self.ticks),
            self.control_clock,
            self.taken,
            [self.lane],
            self.engine,
            self.batches,
            self.lease,
            cancel_grace_s=GRACE_S,
        )

    def take_up(self, batch_id: str = "batch_1") -> None:
        self.store.add(new_batch(batch_id))
        self.store.accept(batch_id, Planned(f"plans/{batch_id}", 1, [(DEFAULT_UPSTREAM, 10)], "small"), NOW)
        assert self.batches.get(batch_id) is not None

    def beat(self) -> None:
        self.heartbeat._attempt(self.heartbeat.report)
        self.heartbeat._attempt(self.heartbeat.follow)

    def report_of(self, name: str, in_flight: int = 0) -> None:
        """Have another worker say that it lives."""
        self.roster.report(WorkerState(name, (), {"default": LaneState(8, in_flight=in_flight)}))
