"""A running engine over two upstreams that a test holds back, and a writer that settles at once."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence

from app.adapters.upstream.balanced import Failing
from app.domain.concurrency import ConcurrencyLimit
from app.domain.rates import RateLimit
from app.domain.result import Result
from app.domain.retry import RetryPolicy
from app.services.execution import ExecutionService
from app.services.ports import ANYBODY, Answer, Caller
from tests.fakes.outside import FakeClock, good_answer
from tests.fakes.trials import MemoryTrialStore
from tests.unit.workers.waiting import WITHIN_S, batch_in_hand, is_settled, until
from workers.batches_in_hand import BatchInHand
from workers.engine import LineEngine
from workers.lane import Lane
from workers.lease import Lease
from workers.line_run import Line, LineRun
from workers.quarantine import Quarantine
from workers.writer import ResultWriter

CONCURRENCY = 3


def request_line(position: int) -> bytes:
    return json.dumps({"custom_id": str(position), "body": {"n": position}}).encode()


class HeldUpstream:
    """Counts who is served; while it is held, nobody gets an answer. An entry of the script may be raised."""

    def __init__(self, script: Sequence[Answer | Exception] = ()) -> None:
        self.script = list(script)
        self.bodies: list[bytes] = []
        self.in_flight = self.most_in_flight = self.broken_off = 0
        self.is_held = False
        # The bodies whose calls hang, others do not.
        self.hangs: Callable[[bytes], bool] = lambda body: False
        self.is_closed = False

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        self.bodies.append(body)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            while self.is_held or self.hangs(bytes(body)):
                await asyncio.sleep(0.002)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        finally:
            self.in_flight -= 1
        entry = self.script.pop(0) if self.script else good_answer()
        if isinstance(entry, Exception):
            raise entry
        return entry

    async def close(self) -> None:
        self.is_closed = True

    def failing(self) -> list[Failing]:
        return []


class EngineHouse:
    """An engine with all around it; `records` is what came to be recorded, in order.

    Most tests have lines for one upstream only; the other one's limits may be given.
    """

    def __init__(
        self,
        script: Sequence[Answer | Exception] = (),
        *,
        policy: RetryPolicy | None = None,
        read_line: Callable[[Line], bytes] = lambda line: request_line(line.position),
        other_per_minute: float | None = None,
        other_in_flight: int | None = None,
        concurrency: int = CONCURRENCY,
        limit: ConcurrencyLimit | None = None,
        lane_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._concurrency = concurrency
        self._limit = limit
        self._lane_clock = lane_clock
        self.upstream, self.other = HeldUpstream(script), HeldUpstream(script)
        self.clock = FakeClock()
        self.trials = MemoryTrialStore()
        # A minute ahead, so that it runs for as long as a test.
        self.lease = Lease()
        self.lease.extend(self.lease.now() + 60)
        self.records: list[Result] = []
        self.writer = ResultWriter(self._record, lambda progress: None, note=self.trials.note)
        policy = policy or RetryPolicy(max_tries=3, base_s=0.001)
        self.lane = self._lane("default", self.upstream, policy)
        self.other_lane = self._lane("other", self.other, policy, other_per_minute, other_in_flight)
        lanes, quarantine = [self.lane, self.other_lane], Quarantine(self.trials)
        self.engine = LineEngine(lanes, self.writer, self.lease, quarantine, read_line=read_line)
        self.writer.start()
        self.engine.start()

    def _lane(
        self,
        name: str,
        upstream: HeldUpstream,
        policy: RetryPolicy,
        per_minute: float | None = None,
        max_in_flight: int | None = None,
    ) -> Lane:
        return Lane(
            name,
            upstream,
            self._limit or ConcurrencyLimit(max_in_flight or self._concurrency),
            RateLimit(per_minute, None),
            concurrency=self._concurrency,
            max_in_flight=max_in_flight,
            call_timeout_s=60,
            execution=lambda upstream: ExecutionService(upstream, self.clock, policy, call_timeout_s=60),
            clock=self._lane_clock,
        )

    def submit(
        self,
        lines: int,
        batch: BatchInHand | None = None,
        *,
        is_read: bool = True,
        is_alone: bool = False,
        is_other: bool = False,
        first: int = 0,
    ) -> LineRun:
        """Give the engine a task of so many lines, for the other upstream if so wished."""
        run = LineRun(batch or batch_in_hand(), lines, self.lease.term, is_alone=is_alone)
        lane = self.other_lane if is_other else self.lane
        lane.room.take(lines)
        self.engine.submit(
            [
                Line(run, lane, position, 0, 10, request_line(position) if is_read else None)
                for position in range(first, first + lines)
            ]
        )
        return run

    def hold(self, lines: int, batch: BatchInHand | None = None) -> LineRun:
        """Give it a task, and return once its calls are in flight, as many as there may be."""
        self.upstream.is_held = True
        run = self.submit(lines, batch)
        until(lambda: self.upstream.in_flight == min(lines, CONCURRENCY))
        return run

    def recorded(self) -> list[int]:
        return sorted(result.position for result in self.records)

    def end(self) -> None:
        self.upstream.is_held = self.other.is_held = False
        self.upstream.hangs = lambda body: False
        self.engine.stop()
        self.writer.stop()

    def _record(self, results: Sequence[Result]) -> list[object]:
        self.records.extend(results)
        return []


def finished(run: LineRun) -> bool:
    """Wait until every line of the run is settled."""
    return is_settled(run, WITHIN_S)
