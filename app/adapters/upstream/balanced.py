"""Balances calls over the servers of an upstream: the least loaded server with a closed circuit gets the call."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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

# A failed call counts as load for this long after the call's end. Without this rule a server that refuses in a
# millisecond would always have the least load, and would get nearly every call.
_AFTERMATH_S = 1.0
# Callers choose the names of models. Past this number, models without a call in flight are forgotten unless they fail.
_MAX_MODELS = 1_000
_MAX_SHOWN_MODEL_CHARS = 200
# Looking a member up in an Enum takes five times as long as a name of the module, and a line passes here twice.
_ANSWERED = Sign.ANSWERED
_WELL = (Sign.ANSWERED, Sign.ANSWERED)


class OpenUpstream(Upstream, Protocol):
    """An upstream with open connections."""

    async def close(self) -> None:
        """Close the connections."""

    def failing(self) -> "list[Failing]":
        """Return the servers and models with calls failing in a row, longest first; safe to call from any thread."""


class UrlStatus(NamedTuple):
    """The state of a server, as this process sees the server."""

    url: str
    in_flight: int
    # Whether the circuit of the server, or of a model on the server, is open.
    is_left_alone: bool
    # 0 where the probe is due or in flight; None where every circuit is closed.
    probe_in_s: float | None
    last_error: str | None


class Failing(NamedTuple):
    """A server, or a model on a server, with calls failing in a row."""

    url: str
    model: str | None
    error: str
    since_s: float


class _Server:
    """A server with circuits and load."""

    __slots__ = ("circuit", "in_flight", "load", "models", "upstream", "url")

    def __init__(self, url: str, upstream: "Server") -> None:
        self.url = url
        self.upstream = upstream
        # `circuit` is for the connection to the server, `models` has a circuit per model on the server.
        self.circuit = Circuit()
        self.models: dict[str, Circuit] = {}
        self.in_flight = 0
        # The calls in flight, and the failed calls of the last `_AFTERMATH_S`.
        self.load = 0

    def of_model(self, model: str) -> Circuit:
        circuit = self.models.get(model)
        if circuit is None:
            if len(self.models) >= _MAX_MODELS:
                self.models = {name: kept for name, kept in self.models.items() if kept.in_flight or kept.is_failing}
            circuit = self.models[model] = Circuit()
        return circuit

    def may_probe(self, own: Circuit | None, now: float, caller: Caller) -> bool:
        batch_id, is_suspect = caller.batch_id, caller.before.is_suspect
        return all(
            circuit.may_begin(now, batch_id=batch_id, is_suspect=is_suspect)
            for circuit in (self.circuit, own)
            if circuit is not None
        )

    def circuits(self) -> list[tuple[str | None, Circuit]]:
        return [(None, self.circuit), *list(self.models.items())]


class _Body(Struct):
    model: str | None = None


_read_body = msgspec.json.Decoder(_Body).decode


class Server(Upstream, Protocol):
    """A server with open connections."""

    async def close(self) -> None:
        """Close the connections."""


class BalancedUpstream:
    """Servers of the same models. Belongs to the event loop that makes the first call.

    A server that can't be reached gets nothing but probes: a single call after a pause, and the pause doubles. The same
    holds for a model after the calls of several lines failed in a row. Where no server is left, the call is withheld.

    Args:
        upstreams: the servers by URL.
        now: returns seconds of a clock that never goes back.
        draw: returns random numbers, uniform in [0, 1).
    """

    def __init__(
        self,
        upstreams: Mapping[str, Server],
        *,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        # The server chosen longest ago comes first, so that servers with equal load take turns.
        self._servers = [_Server(url, upstream) for url, upstream in upstreams.items()]
        self._in_order = tuple(self._servers)
        # The failed calls, with the instant at which the call stops counting as load, in order of the instants.
        self._aftermath: deque[tuple[float, _Server]] = deque()
        self._now = now
        self._draw = draw

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        model = _model_of(body)
        now = self._now()
        server = self._choose(model, now, caller)
        if server is None:
            # Build the answer before the sleep: a circuit may close while other tasks run.
            withheld = self._withheld(model, caller)
            # A caller with call after call would block the event loop if no call ever waited.
            await asyncio.sleep(0)
            return withheld
        whole, part = server.circuit, server.of_model(model)
        terms, probes = (whole.term, part.term), (whole.begin(now, caller.batch_id), part.begin(now, caller.batch_id))
        server.in_flight += 1
        server.load += 1
        answer: Answer | None = None
        try:
            answer = await server.upstream.call(endpoint, body, timeout_s, caller)
        finally:
            server.in_flight -= 1
            is_well = answer is not None and answer.trouble is Trouble.NONE
            if answer is None or is_well:
                server.load -= 1
            else:
                self._aftermath.append((self._now() + _AFTERMATH_S, server))
            signs = _WELL if is_well else signs_of(answer)
            for circuit, term, sign, is_probe in zip((whole, part), terms, signs, probes, strict=True):
                if sign is not _ANSWERED or not circuit.end_well(term, self._now(), now):
                    self._learn(server, circuit, term, sign, answer, caller, began_at=now, is_probe=is_probe)
        if is_well or answer.trouble is Trouble.FINAL:
            return answer
        # The circuit of an unreachable server stands for every model on the server.
        return answer._replace(circuit=whole if signs[0] in (Sign.FAILING, Sign.GONE) else part)

    async def close(self) -> None:
        """Close the connections of every server; calls in flight come back as flaky."""
        await asyncio.gather(*(server.upstream.close() for server in self._servers))

    def status(self) -> list[UrlStatus]:
        """Return the state of each server, in the given order; safe to call from any thread."""
        now = self._now()
        return [_status_of(server, now) for server in self._in_order]

    def failing(self) -> list[Failing]:
        """Return the servers and models with calls failing in a row, longest first; safe to call from any thread."""
        now = self._now()
        found = [
            Failing(server.url, model, circuit.last_error or "", now - (circuit.failing_since or now))
            for server in self._in_order
            for model, circuit in server.circuits()
            if circuit.is_failing
        ]
        return sorted(found, key=lambda each: -each.since_s)

    def _choose(self, model: str, now: float, caller: Caller) -> _Server | None:
        """Return the server for a call that begins now, or None if every server is to be left alone."""
        while self._aftermath and self._aftermath[0][0] <= now:
            self._aftermath.popleft()[1].load -= 1
        best: _Server | None = None
        due: list[_Server] = []
        for server in self._servers:
            own = server.models.get(model)
            if not server.circuit.is_open and (own is None or not own.is_open):
                if best is None or server.load < best.load:
                    best = server
            elif server.may_probe(own, now, caller):
                due.append(server)
        if due:
            return min(due, key=lambda server: _due_at(server, model))
        if best is not None and len(self._servers) > 1:
            self._servers.remove(best)
            self._servers.append(best)
        return best

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
        # The line is not to blame for a failed connection, even where the line is a suspect.
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
    """Return the upstream with a server per base URL; `calling` holds for every server.

    Raises:
        ValueError: no URL is given, or no request can be made with a URL or the key.
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
