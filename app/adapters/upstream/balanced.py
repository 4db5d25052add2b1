"""Balances calls over the servers of an upstream: the least loaded server with a closed circuit gets the call."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, Unpack

import structlog

from app.adapters.upstream.calling import Calling
from app.adapters.upstream.client import WITHHELD, HttpUpstream
from app.adapters.upstream.counted_server import CountedServer, Server
from app.adapters.upstream.signs import error_of, signs_of
from app.domain.circuit import Circuit
from app.domain.result import CONNECTION_FAILED
from app.domain.retry import NO_TRIES, Tries, Trouble
from app.domain.sign import Change, Sign
from app.services.check_call import has_check, model_of
from app.services.ports import ANYBODY, Answer, Caller, Upstream

log = structlog.get_logger()

# A failed call counts as load for this long after the call's end. Without this rule a server that refuses in a
# millisecond would always have the least load, and would get nearly every call.
_AFTERMATH_S = 1.0
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
        self._servers = [CountedServer(url, upstream) for url, upstream in upstreams.items()]
        self._in_order = tuple(self._servers)
        # The failed calls, with the instant at which the call stops counting as load, in order of the instants.
        self._aftermath: deque[tuple[float, CountedServer]] = deque()
        self._now = now
        self._draw = draw

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        model = model_of(body)
        now = self._now()
        server = self._choose(model, now)
        if server is None:
            # Build the answer before the sleep: a circuit may close while other tasks run.
            withheld = self._withheld(model)
            # A caller with call after call would block the event loop if no call ever waited.
            await asyncio.sleep(0)
            return withheld
        part = server.of_model(model)
        is_checked = caller.wants_check and not part.is_open and has_check(endpoint)
        if is_checked:
            check = server.make_check_call(endpoint, model, timeout_s, caller.may_send)
            checked, _ = await self._count(server, part, check, caller, is_check=True)
            if checked.trouble is not Trouble.NONE:
                return _unwell(server, part, checked)
            if not caller.may_send():
                return WITHHELD
            timeout_s -= self._now() - now
        is_probe = part.is_open
        called, sign = await self._count(server, part, server.upstream.call(endpoint, body, timeout_s, caller), caller)
        if called.trouble is Trouble.NONE or called.trouble is Trouble.FINAL:
            return called
        answer = called._replace(was_well_before=is_checked)
        if is_probe and sign is Sign.FAILING and has_check(endpoint) and caller.may_send():
            left_s = timeout_s - (self._now() - now)
            is_well = await self._answers_check(server, part, endpoint, model, left_s, caller)
            answer = answer._replace(was_well_after=is_well)
        return answer

    async def _count(
        self,
        server: CountedServer,
        part: Circuit,
        calling: Awaitable[Answer],
        caller: Caller,
        *,
        is_check: bool = False,
    ) -> tuple[Answer, Sign]:
        """Make a call that the circuit breakers count; return the answer, and the sign for the model."""
        whole, now = server.circuit, self._now()
        before = NO_TRIES if is_check else caller.before
        terms, probes = (whole.term, part.term), (whole.begin(now), part.begin(now))
        server.in_flight += 1
        server.load += 1
        answer: Answer | None = None
        try:
            answer = await calling
        finally:
            server.in_flight -= 1
            is_well = answer is not None and answer.trouble is Trouble.NONE
            if answer is None or is_well:
                server.load -= 1
            else:
                self._aftermath.append((self._now() + _AFTERMATH_S, server))
            signs = _WELL if is_well else signs_of(answer)
            for circuit, term, sign, is_probe in zip((whole, part), terms, signs, probes, strict=True):
                if sign is not _ANSWERED or is_check or not circuit.end_well(term, now):
                    self._learn(server, circuit, term, sign, answer, before, now, is_probe=is_probe, is_check=is_check)
        # The circuit of an unreachable server stands for every model on the server.
        return answer._replace(circuit=whole if signs[0] in (Sign.FAILING, Sign.GONE) else part), signs[1]

    async def _answers_check(
        self, server: CountedServer, part: Circuit, endpoint: str, model: str, timeout_s: float, caller: Caller
    ) -> bool:
        """Return whether the server answers a check call, right after a probe failed."""
        term = part.term
        answer = await server.make_check_call(endpoint, model, timeout_s, caller.may_send)
        if answer.trouble is not Trouble.NONE:
            return False
        if part.clear(term, self._now()) is Change.CLOSED:
            self._tell_closed(server, part)
        return True

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

    def _choose(self, model: str, now: float) -> CountedServer | None:
        """Return the server for a call that begins now, or None if every server is to be left alone."""
        while self._aftermath and self._aftermath[0][0] <= now:
            self._aftermath.popleft()[1].load -= 1
        best: CountedServer | None = None
        due: list[CountedServer] = []
        for server in self._servers:
            own = server.models.get(model)
            if not server.circuit.is_open and (own is None or not own.is_open):
                if best is None or server.load < best.load:
                    best = server
            elif server.may_probe(own, now):
                due.append(server)
        if due:
            return min(due, key=lambda server: _due_at(server, model))
        if best is not None and len(self._servers) > 1:
            self._servers.remove(best)
            self._servers.append(best)
        return best

    def _learn(
        self,
        server: CountedServer,
        circuit: Circuit,
        term: int,
        sign: Sign,
        answer: Answer | None,
        before: Tries,
        began_at: float,
        *,
        is_probe: bool,
        is_check: bool,
    ) -> None:
        now = self._now()
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
            is_check=is_check,
        )
        if change is Change.CLOSED:
            self._tell_closed(server, circuit)

    def _tell_closed(self, server: CountedServer, circuit: Circuit) -> None:
        model = next((name for name, own in server.models.items() if own is circuit), None)
        away_s = round(circuit.open_for_s(self._now()), 3)
        log.info("upstream.back", url=server.url, model=_shown(model), away_s=away_s)

    def _withheld(self, model: str) -> Answer:
        now = self._now()
        wait_of = partial(Circuit.wait_s, now=now)
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


def _unwell(server: CountedServer, circuit: Circuit, checked: Answer) -> Answer:
    """Return the answer to a line's call that was not made, as the server did not answer the check call before."""
    message = f"No call was made: {server.url} did not answer a check call: {error_of(checked)}"
    return Answer(
        Trouble.WITHHELD, retry_after_s=checked.retry_after_s, error=(CONNECTION_FAILED, message), circuit=circuit
    )


def _due_at(server: CountedServer, model: str) -> float:
    own = server.models.get(model)
    return max(circuit.due_at for circuit in (server.circuit, own) if circuit is not None and circuit.is_open)


def _shown(model: str | None) -> str | None:
    return model[:_MAX_SHOWN_MODEL_CHARS] if model else None


def _status_of(server: CountedServer, now: float) -> UrlStatus:
    circuits = [circuit for _, circuit in server.circuits()]
    left = next((circuit for circuit in circuits if circuit.is_open), None)
    error = next((circuit.last_error for circuit in circuits if circuit.last_error), None)
    probe_in_s = None
    if left is not None:
        probe_in_s = 0.0 if left.is_probing else max(left.due_at - now, 0.0)
    return UrlStatus(server.url, server.in_flight, left is not None, probe_in_s, error)
