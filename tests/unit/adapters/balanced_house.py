"""Servers that end calls at the test's command, and a balanced upstream over the servers with a fake clock."""

import asyncio
import json
from collections.abc import Callable

from app.adapters.upstream.balanced import BalancedUpstream, UrlStatus
from app.domain.retry import NO_TRIES, Tries, Trouble
from app.services.ports import ANYBODY, Answer, Caller
from tests.fakes.outside import FakeClock, good_answer

# This endpoint has no check call: servers get the calls of the tests alone.
PLAIN = "/v1/rerank"
REFUSED = Answer(Trouble.AWAY, error=("connection_failed", "No connection to the upstream: refused"))
TIMED_OUT = Answer(Trouble.AWAY, error=("connect_timed_out", "No connection to the upstream within 1 s."))
BROKEN = Answer(Trouble.FLAKY, error=("connection_failed", "The connection to the upstream broke"))
SILENT = Answer(Trouble.FLAKY, error=("request_timeout", "The underlying call to the model timed out."))
LIMITED = Answer(Trouble.AWAY, 429, "r", b"{}")
GOOD = good_answer()


def http(status: int, retry_after_s: float | None = None) -> Answer:
    """Return the answer of a server that takes no call now."""
    return Answer(Trouble.AWAY, status, "r", b"{}", retry_after_s=retry_after_s)


class FakeServer:
    """A server that answers each call with `says`, or keeps calls open until `end`."""

    def __init__(self, says: Answer | None = None) -> None:
        self.says = says
        # The endpoint and the body of each call.
        self.asked: list[tuple[str, bytes]] = []
        self.timeouts_s: list[float] = []
        self.is_closed = False
        self._open: list[asyncio.Future[Answer]] = []

    @property
    def waiting(self) -> list[asyncio.Future[Answer]]:
        """The calls in flight, in the order of their beginning."""
        return [answering for answering in self._open if not answering.done()]

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        self.asked.append((endpoint, body))
        self.timeouts_s.append(timeout_s)
        if self.says is not None:
            return self.says
        answering = asyncio.get_running_loop().create_future()
        self._open.append(answering)
        return await answering

    @property
    def count(self) -> int:
        return len(self.asked)

    async def close(self) -> None:
        self.is_closed = True

    def end(self, answer: Answer = GOOD) -> None:
        """End the oldest call in flight."""
        self.waiting[0].set_result(answer)


class House:
    """A balanced upstream over `count` servers; `draw` returns the random numbers of the jitter."""

    def __init__(self, count: int, draw: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = FakeClock()
        self.servers = [FakeServer() for _ in range(count)]
        self.upstream = BalancedUpstream(
            {f"http://{number}/v1": server for number, server in enumerate(self.servers)},
            now=self.clock.now,
            draw=draw,
        )

    async def begin(
        self, count: int = 1, model: str = "", before: Tries = NO_TRIES, *, endpoint: str = PLAIN
    ) -> list[asyncio.Task[Answer]]:
        """Begin calls one after the other; return the calls once the servers have the calls."""
        calls = []
        body = json.dumps({"model": model}).encode()
        for _ in range(count):
            calls.append(asyncio.ensure_future(self.upstream.call(endpoint, body, 60.0, Caller(before))))
            await settle()
        return calls

    async def call(self, model: str = "", before: Tries = NO_TRIES) -> Answer:
        """Make a call to servers that answer at once."""
        (call,) = await self.begin(1, model, before)
        assert call.done()
        return await call

    async def let(self, number: int, *answers: Answer) -> None:
        """Let one server end a call with each answer; other servers answer well."""
        for answer in answers:
            calls: list[asyncio.Task[Answer]] = []
            while not self.servers[number].waiting:
                calls += await self.begin()
            self.servers[number].end(answer)
            for other in self.servers:
                while other.waiting:
                    other.end()
            await asyncio.gather(*calls)

    @property
    def counts(self) -> list[int]:
        """The number of calls to each server."""
        return [server.count for server in self.servers]

    @property
    def in_flight(self) -> list[int]:
        return [status.in_flight for status in self.upstream.status()]

    def status(self, number: int) -> UrlStatus:
        return self.upstream.status()[number]

    @property
    def left_alone(self) -> list[int]:
        return [number for number, status in enumerate(self.upstream.status()) if status.is_left_alone]


async def settle() -> None:
    """Let every task run until the task waits."""
    for _ in range(5):
        await asyncio.sleep(0)
