"""A server of an upstream with its circuit breakers and its load."""

import time
from collections.abc import Callable
from typing import Protocol

from app.domain.circuit import Circuit
from app.services.check_call import CHECK_TIMEOUT_S, make_check_call
from app.services.ports import Answer, Caller, Upstream

# Callers choose the names of models. Past this number, models without a call in flight are forgotten unless they fail.
_MAX_MODELS = 1_000


class Server(Upstream, Protocol):
    """A server with open connections."""

    async def close(self) -> None:
        """Close the connections."""


class CountedServer:
    """A server, with a circuit breaker for connections and one for each model, and with the number of calls."""

    __slots__ = ("circuit", "in_flight", "load", "models", "upstream", "url")

    def __init__(self, url: str, upstream: Server) -> None:
        self.url = url
        self.upstream = upstream
        self.circuit = Circuit()
        self.models: dict[str, Circuit] = {}
        self.in_flight = 0
        # The calls in flight, and the calls that failed a moment ago.
        self.load = 0

    def of_model(self, model: str) -> Circuit:
        """Return the circuit breaker of a model."""
        circuit = self.models.get(model)
        if circuit is None:
            if len(self.models) >= _MAX_MODELS:
                self.models = {name: kept for name, kept in self.models.items() if kept.in_flight or kept.is_failing}
            circuit = self.models[model] = Circuit()
        return circuit

    def may_probe(self, own: Circuit | None, now: float) -> bool:
        """Return whether a call may begin; `own` is the circuit breaker of the call's model, if there is one."""
        return self.circuit.may_begin(now) and (own is None or own.may_begin(now))

    def circuits(self) -> list[tuple[str | None, Circuit]]:
        """Return the circuit breakers with their models; None stands for the server."""
        return [(None, self.circuit), *list(self.models.items())]

    async def make_check_call(
        self, endpoint: str, model: str, timeout_s: float, may_send: Callable[[], bool]
    ) -> Answer:
        """Make a check call for the model; `has_check(endpoint)` must hold."""
        ends_at = time.monotonic() + min(timeout_s, CHECK_TIMEOUT_S)

        async def call(endpoint: str, body: bytes) -> Answer:
            left_s = ends_at - time.monotonic()
            return await self.upstream.call(endpoint, body, left_s, Caller(may_send=may_send))

        return await make_check_call(call, endpoint, model)
