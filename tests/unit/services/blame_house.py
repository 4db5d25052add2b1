"""Lines, an execution service and a server's circuits in simulated time: a day passes in a moment."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence

from app.adapters.upstream.balanced import BalancedUpstream, Failing
from app.domain.result import Result
from app.domain.retry import NO_TRIES, RetryPolicy, Tries, Trouble, trouble_of
from app.services.execution import ExecutionService, LineAttempt, OutOfTime, Retry
from app.services.ports import ANYBODY, Answer, Caller
from tests.fakes.outside import good_answer

CHAT = "/v1/chat/completions"
DAY_S = 86_400.0
MINUTE_S = 60.0
# An outage that is to cost no line a try; and how long a line is tried that is refused while others are answered.
OUTAGE_S = 12.0
SPENT_S = 15 * MINUTE_S

# The smallest request is answered soon, however long other requests take.
MOST_CHECK_S = 0.05
# What a server answers a line, by the line's custom_id and the seconds since the start.
Behaviour = Callable[[str, float], Answer]


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer wherever nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self._simulated_s = 0.0

    def time(self) -> float:
        return self._simulated_s

    def now(self) -> float:
        return self._simulated_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._simulated_s = max(self._simulated_s, self._scheduled[0]._when)
        super()._run_once()


def http(status: int, *, names_fault: bool = True, retry_after_s: float | None = None) -> Answer:
    body = json.dumps({"error": {"message": f"status {status}"}}).encode()
    return Answer(trouble_of(status, names_fault=names_fault), status, "r", body, retry_after_s=retry_after_s)


REFUSED = Answer(Trouble.AWAY, error=("connection_failed", "No connection to the upstream: refused"))
UNREACHED = Answer(Trouble.AWAY, error=("connect_timed_out", "No connection to the upstream within 5 s."))
RESET = Answer(Trouble.FLAKY, error=("connection_failed", "The connection to the upstream broke: reset"))
HTML = Answer(Trouble.FLAKY, error=("invalid_response", "The upstream answered 200 with a body that is HTML"))
NOT_FOUND_PAGE = http(404, names_fault=False)
GOOD = good_answer()
# The answers in an outage, one of each kind.
OUTAGE_ANSWERS = [*(http(status) for status in (401, 403, 429, 500, 503, 530)), NOT_FOUND_PAGE, HTML, REFUSED, RESET]


def check_of(model: str) -> str:
    """Return the name of check calls for a model."""
    return f"check {model}"


def said(answer: Answer) -> str:
    return str(answer.status or answer.error[0] if answer.error else answer.status)


def poison(answer: Answer, *lines: str) -> Behaviour:
    return lambda name, now: answer if name in lines else GOOD


class SimulatedServer:
    """Answers after a latency; `calls` counts those of each line."""

    def __init__(
        self, behaviour: Behaviour, latency_s: float, loop: SimulatedLoop, cuts_s: Sequence[float] = ()
    ) -> None:
        self._cuts_s = cuts_s
        self._behaviour = behaviour
        self._latency_s = latency_s
        self._loop = loop
        self.calls: Counter[str] = Counter()

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        request = json.loads(bytes(body))
        name = request.get("name") or check_of(request["model"])
        self.calls[name] += 1
        answer = self._behaviour(name, self._loop.now())
        # Failures come at once, as from a proxy before a server that is gone.
        ends_at = self._loop.now() + (self._latency_s if answer.trouble is Trouble.NONE else 0.001)
        if name == check_of("m"):
            ends_at = min(ends_at, self._loop.now() + MOST_CHECK_S)
        cut_at = next((at for at in self._cuts_s if self._loop.now() < at < ends_at), None)
        await asyncio.sleep((cut_at or ends_at) - self._loop.now())
        return RESET if cut_at is not None else answer

    async def close(self) -> None:
        """Do nothing."""


class BlameHouse:
    """Runs lines against one server until each has its result or the window ends.

    Args:
        behaviour: what the server answers.
        latency_s: how long an answer takes.
        concurrency: calls in flight at most.
        max_tries: of each line.
        endpoint: of each line.
        cuts_s: the instants at which the server cuts all calls in flight.
        seed: of the jitter.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        latency_s: float = 0.25,
        concurrency: int = 16,
        max_tries: int = 5,
        endpoint: str = CHAT,
        cuts_s: Sequence[float] = (),
        seed: int = 7,
    ) -> None:
        self._endpoint = endpoint
        self.loop = SimulatedLoop()
        self.server = SimulatedServer(behaviour, latency_s, self.loop, cuts_s)
        draw = random.Random(seed).random
        self.upstream = BalancedUpstream({"http://gpu/v1": self.server}, now=self.loop.now, draw=draw)
        policy = RetryPolicy(max_tries=max_tries)
        self._service = ExecutionService(
            self.upstream, self.loop, policy, call_timeout_s=600, steady=self.loop.now, draw=draw
        )
        self._slots = asyncio.Semaphore(concurrency)
        self.results: dict[str, Result] = {}
        self.ended_at: dict[str, float] = {}
        self.tries: dict[str, Tries] = {}

    def run(self, *names: str, model: str = "m", window_s: float = DAY_S, start_s: float = 0.0) -> None:
        """Run these lines side by side to their end."""
        self.run_all(self.lines(*names, model=model, window_s=window_s, start_s=start_s))

    def run_all(self, *lines: Coroutine[object, object, object]) -> None:
        self.loop.run_until_complete(asyncio.wait_for(_together(*lines), None))

    async def lines(self, *names: str, model: str = "m", window_s: float = DAY_S, start_s: float = 0.0) -> None:
        await asyncio.sleep(start_s)
        await asyncio.gather(*(self._run_line(name, model, window_s) for name in names))

    def failing(self) -> list[Failing]:
        return self.upstream.failing()

    def end(self) -> None:
        self.loop.close()

    async def _run_line(self, name: str, model: str, window_s: float) -> None:
        line = json.dumps({"custom_id": name, "body": {"model": model, "name": name}}).encode()
        tries, met = NO_TRIES, None
        while True:
            async with self._slots:
                attempt = LineAttempt("batch_1", self._endpoint, window_s, 0, line, Caller(tries), met)
                outcome = await self._service.attempt(attempt)
            if isinstance(outcome, Retry):
                tries, met = outcome.tries, outcome.met
                self.tries[name] = tries
                await asyncio.sleep(outcome.delay_s)
                continue
            if isinstance(outcome, Result):
                self.results[name] = outcome
            assert isinstance(outcome, Result | OutOfTime)
            self.ended_at[name] = self.loop.now()
            return

    def failed(self) -> dict[str, int]:
        """Return the lines that ended as errors, by the status of their answer, 0 without one."""
        found = {}
        for name, result in self.results.items():
            if not result.ok:
                response = json.loads(result.payload)["response"]
                found[name] = response["status_code"] if response else 0
        return found


async def _together(*lines: Coroutine[object, object, object]) -> None:
    await asyncio.gather(*lines)


def names(count: int, mark: str = "line") -> list[str]:
    return [f"{mark}-{number}" for number in range(count)]


# Builds a house for a behaviour; its settings are those of the house.
Open = Callable[..., BlameHouse]
