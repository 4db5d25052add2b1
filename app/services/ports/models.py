"""The model servers, as the use cases see them."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from app.domain.batch import Usage
from app.domain.circuit import Circuit
from app.domain.retry import NO_TRIES, Tries, Trouble


class Answer(NamedTuple):
    """The outcome of a call to an upstream.

    With an HTTP answer: `status`, `request_id` and `body`, which is JSON. Without: `error`, a code and a message.
    """

    trouble: Trouble
    status: int = 0
    request_id: str = ""
    body: bytes = b""
    usage: Usage = Usage()
    retry_after_s: float | None = None
    error: tuple[str, str] | None = None
    # For a failure: the circuit breaker with other lines' calls to the same place; None if nobody counts calls.
    circuit: Circuit | None = None
    # For a failed call: the server answered a check call right before the call, or right after.
    was_well_before: bool = False
    was_well_after: bool = False


def _always() -> bool:
    return True


class Caller(NamedTuple):
    """The line that calls, as far as an upstream needs to know the line.

    Args:
        before: the line's calls so far.
        may_send: asked once more right before the request goes out, after the last wait.
        wants_check: whether a check call is to come before the call.
    """

    before: Tries = NO_TRIES
    may_send: Callable[[], bool] = _always
    wants_check: bool = False


ANYBODY = Caller()


class Upstream(Protocol):
    """The model servers."""

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        """Post `body` to the endpoint; raises only on cancellation."""


class ModelCatalog(Protocol):
    """The models of a server, or of all upstreams together."""

    def models(self) -> list[dict[str, object]]:
        """Return the model objects, each with an `id`; raises Unavailable."""
