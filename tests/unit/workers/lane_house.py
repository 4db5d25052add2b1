"""A lane whose time and upstream are a test's."""

import asyncio
from collections.abc import Callable, Sequence

from app.adapters.upstream.balanced import Failing
from app.domain.concurrency import Call, ConcurrencyLimit, Outcome
from app.domain.rates import RateLimit
from app.domain.retry import RetryPolicy
from app.services.execution import ExecutionService
from app.services.ports import ANYBODY, Answer, Caller, LaneState
from tests.fakes.outside import FakeClock, ScriptedUpstream
from tests.unit.workers.waiting import CHAT
from workers.lane import Lane

CONCURRENCY = 3
# One call a second.
PER_MINUTE = 60.0


class RecordingLimit(ConcurrencyLimit):
    """Keeps how calls ended."""

    def __init__(self, ceiling: int, *, is_adaptive: bool = False) -> None:
        super().__init__(ceiling, is_adaptive=is_adaptive)
        self.outcomes: list[Outcome] = []

    def end(self, call: Call, now: float, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        super().end(call, now, outcome)


class ClosableUpstream(ScriptedUpstream):
    """Does what it is told amid a call, once."""

    is_closed = False
    fails: Sequence[Failing] = ()
    before_answer: Callable[[], None] | None = None

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        act, self.before_answer = self.before_answer, None
        if act is not None:
            act()
        return await super().call(endpoint, body, timeout_s, caller)

    async def close(self) -> None:
        self.is_closed = True

    def failing(self) -> list[Failing]:
        return list(self.fails)


class House:
    """A lane whose time is a test's."""

    def __init__(
        self,
        script: Sequence[Answer | BaseException] = (),
        *,
        limit: ConcurrencyLimit | None = None,
        rate: RateLimit | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        self.clock = FakeClock(100.0)
        self.upstream = ClosableUpstream(script)
        self.limit = limit or RecordingLimit(1_000)
        self.lane = Lane(
            "gpu",
            self.upstream,
            self.limit,
            rate or RateLimit(None, None),
            concurrency=CONCURRENCY,
            max_in_flight=max_in_flight,
            call_timeout_s=60,
            execution=lambda upstream: ExecutionService(upstream, self.clock, RetryPolicy(), call_timeout_s=60),
            clock=self.clock.now,
        )

    def begun(self) -> int:
        """Begin as many lines as may begin now; return how many."""
        count = 0
        while self.lane.begin():
            count += 1
        return count

    def call(self, timeout_s: float = 60) -> Answer:
        return asyncio.run(self.lane.call(CHAT, b"{}", timeout_s))

    def share(self, place: int, workers: int, in_flight_elsewhere: int = 0) -> int:
        states = [LaneState(0)] * workers
        states[place - 1] = LaneState(0, in_flight=in_flight_elsewhere)
        self.lane.set_share(place, states)
        return self.lane.slots
