"""The model servers, as the use cases see them."""

from typing import NamedTuple, Protocol

from app.domain.batch import Usage
from app.domain.retry import Trouble


class Answer(NamedTuple):
    """What a call to an upstream came to.

    With an HTTP answer: `status`, `request_id` and `body`, which is JSON. Without one: `error`, a code and a message.
    """

    trouble: Trouble
    status: int = 0
    request_id: str = ""
    body: bytes = b""
    usage: Usage = Usage()
    retry_after_s: float | None = None
    error: tuple[str, str] | None = None


class Upstream(Protocol):
    """The model servers."""

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        """Post `body` to the endpoint; never raises but for cancellation."""


class ModelCatalog(Protocol):
    """What a server, or all upstreams together, serve."""

    def models(self) -> list[dict[str, object]]:
        """Return the model objects, each with an `id`; Unavailable."""
