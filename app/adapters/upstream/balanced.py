"""Several servers as one upstream: each call goes to the one with the least to do of those that are healthy."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol, Unpack

import structlog

from app.adapters.upstream.calling import Calling
from app.adapters.upstream.client import HttpUpstream
from app.domain.health import Health, Sign
from app.domain.result import CONNECT_TIMED_OUT, CONNECTION_FAILED, REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.services.ports import Answer, Upstream

log = structlog.get_logger()

# A call that was no success counts as load so long after its end. Without it a server that refuses in a millisecond
# would always have the least to do, and so get nearly every call.
_AFTERMATH_S = 1.0
_TOO_MANY_REQUESTS = 429
# Of calls without an answer: these may be the call's own doing.
_UNANSWERED = frozenset({CONNECTION_FAILED, REQUEST_TIMEOUT[0]})


class OpenUpstream(Upstream, Protocol):
    """An upstream that holds connections."""

    async def close(self) -> None:
        """Close them."""


class UrlStatus(NamedTuple):
    """How one of the servers is, as this process sees it."""

    url: str
    in_flight: int
    is_left_alone: bool
    # 0 where the probe is due or out; None for a server that is not left alone.
    probe_in_s: float | None
    last_error: str | None


class _Server:
    """One of the servers."""

    __slots__ = ("health", "in_flight", "load", "upstream", "url")

    def __init__(self, url: str, upstream: OpenUpstream) -> None:
        self.url = url
        self.upstream = upstream
        self.health = Health()
        self.in_flight = 0
        # Calls in flight, and those that ended badly a moment ago.
        self.load = 0


_load = attrgetter("load")


class BalancedUpstream:
    """Several servers that serve the same models. Belongs to the event loop that makes its first call.

    A server that can't be reached or fails several times in a row is left alone for a pause that doubles, then gets one
    call as a probe. Where all are left alone a call goes to one that refuses, for it may be the models of other calls
    that are away. Where nobody is there it comes back at once, as from an upstream that is away.

    Args:
        upstreams: each server by its URL.
        now: seconds of a clock that never goes back.
        draw: returns random numbers, uniform in [0, 1).
    """

    def __init__(
        self,
        upstreams: Mapping[str, OpenUpstream],
        *,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._servers = tuple(_Server(url, upstream) for url, upstream in upstreams.items())
        # Of each list the first one is the one chosen longest ago, so that equals take turns.
        self._healthy = list(self._servers)
        self._left_alone: list[_Server] = []
        # When each call that ended badly stops counting as load; in that order.
        self._aftermath: deque[tuple[float, _Server]] = deque()
        self._now = now
        self._draw = draw

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        server = self._choose()
        if server is None:
            # Callers that go from one call to the next would hold up the loop if none of them ever waited.
            await asyncio.sleep(0)
            return self._away()
        health = server.health
        is_probe, term = health.is_left_alone and health.may_probe(self._now()), health.term
        health.is_probing = health.is_probing or is_probe
        server.in_flight += 1
        server.load += 1
        try:
            answer = await server.upstream.call(endpoint, body, timeout_s)
        except BaseException:
            # A probe that is broken off says nothing: the next call is one.
            server.load -= 1
            if is_probe:
                health.is_probing = False
            raise
        finally:
            server.in_flight -= 1
        if answer.trouble is Trouble.NONE:
            server.load -= 1
            # Most calls end here.
            if not is_probe and not health.failures:
                return answer
        else:
            self._aftermath.append((self._now() + _AFTERMATH_S, server))
        # A probe's term is never over before it: nothing else brings its server back.
        if term == health.term:
            self._learn(server, answer, is_probe=is_probe)
        return answer

    async def close(self) -> None:
        """Close all connections; calls in flight come back as flaky."""
        await asyncio.gather(*(server.upstream.close() for server in self._servers))

    def status(self) -> list[UrlStatus]:
        """Return how each server is, in the order in which they were given; from any thread."""
        now = self._now()
        return [_status_of(server, now) for server in self._servers]

    def _choose(self) -> _Server | None:
        """Return the server for a call that begins now; None where none can be asked."""
        if self._left_alone or self._aftermath:
            now = self._now()
            while self._aftermath and self._aftermath[0][0] <= now:
                self._aftermath.popleft()[1].load -= 1
            due = [server for server in self._left_alone if server.health.may_probe(now)]
            if due:
                return min(due, key=lambda server: server.health.due_at)
        servers = choice = self._healthy
        if not servers:
            # With nowhere else to go, to leave those alone that do answer would only keep the models that they have.
            servers = self._left_alone
            choice = [server for server in servers if server.health.is_there]
            if not choice:
                return None
        server = min(choice, key=_load)
        servers.remove(server)
        servers.append(server)
        return server

    def _learn(self, server: _Server, answer: Answer, *, is_probe: bool) -> None:
        health = server.health
        sign = _sign_of(answer)
        if not is_probe:
            if health.call_ended(sign, _error_of(answer)):
                pause_s = health.leave_alone(sign, self._now(), self._draw(), answer.retry_after_s or 0.0)
                self._healthy.remove(server)
                self._left_alone.append(server)
                log.warning("upstream.left_alone", url=server.url, error=health.last_error, pause_s=round(pause_s, 3))
        elif sign is Sign.ANSWERED:
            away_s = health.come_back(self._now())
            self._left_alone.remove(server)
            self._healthy.append(server)
            log.info("upstream.back", url=server.url, away_s=round(away_s, 3))
        elif sign is Sign.NOTHING:
            health.probe_again(self._now())
        else:
            health.last_error = _error_of(answer)
            health.leave_alone(sign, self._now(), self._draw(), answer.retry_after_s or 0.0)

    def _away(self) -> Answer:
        now = self._now()
        wait_s, server = min(
            ((server.health.wait_s(now), server) for server in self._left_alone), key=lambda each: each[0]
        )
        message = f"No upstream takes calls now. {server.url} is asked again first: {server.health.last_error}"
        return Answer(Trouble.AWAY, retry_after_s=wait_s, error=(CONNECTION_FAILED, message))


def open_upstream(urls: Sequence[str], **calling: Unpack[Calling]) -> HttpUpstream | BalancedUpstream:
    """Return the upstream that these base URLs make, all called in the same way.

    Raises:
        ValueError: there is none, or a URL or the key is none that a request can be made with.
    """
    upstreams = {url: HttpUpstream(url, **calling) for url in urls}
    if not upstreams:
        raise ValueError("There must be the URL of at least one upstream.")
    if len(upstreams) == 1:
        # With nowhere else to go there is nothing to balance, and each line's own pauses do what is left to do.
        return next(iter(upstreams.values()))
    return BalancedUpstream(upstreams)


def _sign_of(answer: Answer) -> Sign:
    if answer.error is None:
        # A server that limits its callers is well.
        is_refusing = answer.trouble is Trouble.AWAY and answer.status != _TOO_MANY_REQUESTS
        return Sign.REFUSING if is_refusing else Sign.ANSWERED
    code = answer.error[0]
    if answer.trouble is Trouble.AWAY:
        # A server whose queue of connections is full for a moment lets them time out.
        return Sign.FAILING if code == CONNECT_TIMED_OUT else Sign.GONE
    return Sign.NOTHING if code in _UNANSWERED else Sign.ANSWERED


def _error_of(answer: Answer) -> str:
    return answer.error[1] if answer.error else f"The upstream answered {answer.status}."


def _status_of(server: _Server, now: float) -> UrlStatus:
    health = server.health
    probe_in_s = None
    if health.is_left_alone:
        probe_in_s = 0.0 if health.is_probing else max(health.due_at - now, 0.0)
    return UrlStatus(server.url, server.in_flight, health.is_left_alone, probe_in_s, health.last_error)
