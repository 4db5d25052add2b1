"""The servers of an upstream: each call goes to the one with the least to do of those whose circuit is closed."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple, Protocol, Unpack

import msgspec
import structlog
from msgspec import Struct

from app.adapters.upstream.calling import Calling
from app.adapters.upstream.client import HttpUpstream
from app.adapters.upstream.signs import error_of, signs_of
from app.domain.circuit import Circuit
from app.domain.result import CONNECTION_FAILED
from app.domain.retry import Trouble
from app.domain.sign import Change, Sign
from app.services.ports import ANYBODY, Answer, Caller, Upstream

log = structlog.get_logger()

# A call that was no success counts as load so long after its end. Without it a server that refuses in a millisecond
# would always have the least to do, and so get nearly every call.
_AFTERMATH_S = 1.0
# Callers choose the names of models. Past this number those are forgotten that nothing is in flight for.
_MAX_MODELS = 1_000
_MAX_SHOWN_MODEL_CHARS = 200


class OpenUpstream(Upstream, Protocol):
    """An upstream that holds connections."""

    async def close(self) -> None:
        """Close them."""

    def failing(self) -> "list[Failing]":
        """Return what fails in a row, the longest first; from any thread."""


class UrlStatus(NamedTuple):
    """How one of the servers is, as this process sees it."""

    url: str
    in_flight: int
    # Whether its circuit, or that of one of its models, is open.
    is_left_alone: bool
    # 0 where the probe is due or out; None for a server that is not left alone.
    probe_in_s: float | None
    last_error: str | None


class Failing(NamedTuple):
    """A server, or a model of it, whose calls fail in a row."""

    url: str
    model: str | None
    error: str
    since_s: float


class _Server:
    """One of the servers."""

    __slots__ = ("circuit", "in_flight", "load", "models", "upstream", "url")

    def __init__(self, url: str, upstream: "Server") -> None:
        self.url = url
        self.upstream = upstream
        # Of the connection to it; and of each of its models.
        self.circuit = Circuit()
        self.models: dict[str, Circuit] = {}
        self.in_flight = 0
        # Calls in flight, and those that ended badly a moment ago.
        self.load = 0

    def of_model(self, model: str) -> Circuit:
        circuit = self.models.get(model)
        if circuit is None:
            if len(self.models) >= _MAX_MODELS:
                self.models = {name: kept for name, kept in self.models.items() if kept.in_flight or kept.is_failing}
            circuit = self.models[model] = Circuit()
        return circuit

    def circuits(self) -> list[tuple[str | None, Circuit]]:
        return [(None, self.circuit), *list(self.models.items())]


_load = attrgetter("load")


class _Body(Struct):
    model: str | None = None


_read_body = msgspec.json.Decoder(_Body).decode


class Server(Upstream, Protocol):
    """One server, which holds connections."""

    async def close(self) -> None:
        """Close them."""


class BalancedUpstream:
    """Servers that serve the same models. Belongs to the event loop that makes its first call.

    A server that can't be reached gets nothing but probes, and so does a model of it whose calls fail for several lines
    in a row: one call after a pause that doubles. Where no server is left for a call, the call is withheld.

    Args:
        upstreams: each server by its URL.
        now: seconds of a clock that never goes back.
        draw: returns random numbers, uniform in [0, 1).
    """

    def __init__(
        self,
        upstreams: Mapping[str, Server],
        *,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        # The first one is the one chosen longest ago, so that equals take turns.
        self._servers = [_Server(url, upstream) for url, upstream in upstreams.items()]
        self._in_order = tuple(self._servers)
        # When each call that ended badly stops counting as load; in that order.
        self._aftermath: deque[tuple[float, _Server]] = deque()
        self._now = now
        self._draw = draw

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        model = _model_of(body)
        now = self._now()
        server = self._choose(model, now, caller)
        if server is None:
            # Of this moment: once others have gone on, a circuit may be closed.
            withheld = self._withheld(model, caller)
            # Callers that go from one call to the next would hold up the loop if none of them ever waited.
            await asyncio.sleep(0)
            return withheld
        circuits = server.circuit, server.of_model(model)
        begun = [(circuit, circuit.term, circuit.begin(now, caller.batch_id)) for circuit in circuits]
        server.in_flight += 1
        server.load += 1
        answer: Answer | None = None
        try:
            answer = await server.upstream.call(endpoint, body, timeout_s, caller)
        finally:
            server.in_flight -= 1
            if answer is None or answer.trouble is Trouble.NONE:
                server.load -= 1
            else:
                self._aftermath.append((self._now() + _AFTERMATH_S, server))
            signs = signs_of(answer)
            for (circuit, term, is_probe), sign in zip(begun, signs, strict=True):
                if sign is not Sign.ANSWERED or not circuit.end_well(term, self._now(), now):
                    self._learn(server, circuit, term, sign, answer, caller, began_at=now, is_probe=is_probe)
        if answer.trouble in (Trouble.NONE, Trouble.FINAL):
            return answer
        # Whoever was not reached stands for all of its models.
        return answer._replace(circuit=circuits[0] if signs[0] in (Sign.FAILING, Sign.GONE) else circuits[1])

    async def close(self) -> None:
        """Close all connections; calls in flight come back as flaky."""
        await asyncio.gather(*(server.upstream.close() for server in self._servers))

    def status(self) -> list[UrlStatus]:
        """Return how each server is, in the order in which they were given; from any thread."""
        now = self._now()
        return [_status_of(server, now) for server in self._in_order]

    def failing(self) -> list[Failing]:
        """Return what fails in a row, the longest first; from any thread."""
        now = self._now()
        found = [
            Failing(server.url, model, circuit.last_error or "", now - (circuit.failing_since or now))
            for server in self._in_order
            for model, circuit in server.circuits()
            if circuit.is_failing
        ]
        return sorted(found, key=lambda each: -each.since_s)

    def _choose(self, model: str, now: float, caller: Caller) -> _Server | None:
        """Return the server for a call that begins now; None where none is to be asked."""
        while self._aftermath and self._aftermath[0][0] <= now:
            self._aftermath.popleft()[1].load -= 1
        healthy, due = [], []
        batch_id, is_suspect = caller.batch_id, caller.before.is_suspect
        for server in self._servers:
            own = server.models.get(model)
            if not server.circuit.is_open and (own is None or not own.is_open):
                healthy.append(server)
            elif server.circuit.may_begin(now, batch_id=batch_id, is_suspect=is_suspect) and (
                own is None or own.may_begin(now, batch_id=batch_id, is_suspect=is_suspect)
            ):
                due.append(server)
        if due:
            return min(due, key=lambda server: _due_at(server, model))
        if not healthy:
            return None
        server = min(healthy, key=_load)
        if len(self._servers) > 1:
            self._servers.remove(server)
            self._servers.append(server)
        return server

    def _learn(
        self,
        server: _Server,
        circuit: Circuit,
        term: int,
        sign: Sign,
        answer: Answer | None,
        caller: Caller,
        *,
        began_at: float,
        is_probe: bool,
    ) -> None:
        before, now = caller.before, self._now()
        # Whoever could not connect is not to blame, whatever the line did before.
        is_of_model = circuit is not server.circuit
        error = error_of(answer) if answer is not None and sign in (Sign.FAILING, Sign.GONE) else None
        change = circuit.end(
            sign,
            now,
            began_at=began_at,
            term=term,
            is_probe=is_probe,
            random=self._draw() if error is not None else 0.0,
            asked_s=answer.retry_after_s or 0.0 if answer is not None else 0.0,
            error=error,
            is_suspect=is_of_model and before.is_suspect,
            is_convicted=is_of_model and before.is_convicted,
            is_repeat=before.failed is not None and before.failed.is_counted_by(circuit),
        )
        if change is Change.CLOSED:
            model = next((name for name, own in server.models.items() if own is circuit), None)
            away_s = round(circuit.open_for_s(now), 3)
            log.info("upstream.back", url=server.url, model=_shown(model), away_s=away_s)

    def _withheld(self, model: str, caller: Caller) -> Answer:
        now = self._now()
        wait_of = partial(Circuit.wait_s, now=now, batch_id=caller.batch_id, is_suspect=caller.before.is_suspect)
        waits = []
        for server in self._servers:
            own = server.models.get(model, server.circuit)
            worst = max((each for each in (server.circuit, own) if each.is_open), key=wait_of)
            waits.append((wait_of(worst), server, worst))
        wait_s, server, circuit = min(waits, key=lambda each: each[0])
        message = f"No call was made: {server.url} is left alone, as it failed last: {circuit.last_error}"
        return Answer(Trouble.WITHHELD, retry_after_s=wait_s, error=(CONNECTION_FAILED, message), circuit=circuit)


def open_upstream(urls: Sequence[str], **calling: Unpack[Calling]) -> BalancedUpstream:
    """Return the upstream that these base URLs make, all called in the same way.

    Raises:
        ValueError: there is none, or a URL or the key is none that a request can be made with.
    """
    upstreams = {url: HttpUpstream(url, **calling) for url in urls}
    if not upstreams:
        raise ValueError("There must be the URL of at least one upstream.")
    return BalancedUpstream(upstreams)


def _model_of(body: bytes) -> str:
    try:
        return _read_body(body).model or ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _due_at(server: _Server, model: str) -> float:
    own = server.models.get(model)
    return max(circuit.due_at for circuit in (server.circuit, own) if circuit is not None and circuit.is_open)


def _shown(model: str | None) -> str | None:
    return model[:_MAX_SHOWN_MODEL_CHARS] if model else None


def _status_of(server: _Server, now: float) -> UrlStatus:
    circuits = [circuit for _, circuit in server.circuits()]
    left = next((circuit for circuit in circuits if circuit.is_open), None)
    error = next((circuit.last_error for circuit in circuits if circuit.last_error), None)
    probe_in_s = None
    if left is not None:
        probe_in_s = 0.0 if left.is_probing else max(left.due_at - now, 0.0)
    return UrlStatus(server.url, server.in_flight, left is not None, probe_in_s, error)
