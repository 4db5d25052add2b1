"""Check whether the servers of the upstreams answer, by a list of models and a call for each server."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from errno import ECONNREFUSED
from typing import NamedTuple, Protocol

import msgspec

from app.domain.result import REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.domain.upstream import Routes, UpstreamSpec
from app.services.check_call import CHAT, has_check, make_check_call
from app.services.ports import Answer

# Bounds sockets, threads and lines of a terminal: far more servers than a deployment has.
_MOST_AT_ONCE = 256
_MAX_SHOWN_CHARS = 160
_KEY_REFUSED = frozenset({401, 403})
_BODY_REFUSED = frozenset({400, 422})
_MISSING = re.compile("not (found|exist)|(unknown|invalid) model|no such model", re.IGNORECASE)
_ENDPOINT_MISSING = frozenset({404, 405})
_THROTTLED = 429
# If a name has several addresses and no address accepts, the client raises a single error of another kind.
_REFUSED = re.compile(rf"ConnectionRefusedError|\[Errno {ECONNREFUSED}\]")
# The system's words in the client's message, without the error's kind and number, and without the address behind them.
_CANNOT_CONNECT = re.compile(r"No connection to the upstream: (?:\w+: )?(?:\[[^\]]*\] )?(.*) \(\S+\)")


class Server(Protocol):
    """A server of an upstream, as the check sees it."""

    async def models(self) -> list[str] | None:
        """Return the ids of the models that the server lists; None if the list can't be had."""

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        """Post `body` to the endpoint, over a connection of its own."""


class ServerCheck(NamedTuple):
    """The outcome for a server; `models` are the listed models that lines for the upstream may name."""

    upstream: str
    url: str
    is_fine: bool
    outcome: str
    models: tuple[str, ...] | None


class _Question(NamedTuple):
    endpoint: str
    model: str


class UpstreamCheckService:
    """Asks every server of every upstream side by side.

    Args:
        routes: the routes from models to upstreams.
        endpoints: the endpoints that a batch may use.
        open_server: returns the server of an upstream at a URL.
        patience_s: the seconds for the list of models, and again for the call.
        may_stop_at_list: accept, without a call, a server that lists a model for the upstream's lines: a call may cost
            money.
    """

    def __init__(
        self,
        routes: Routes,
        endpoints: Sequence[str],
        open_server: Callable[[UpstreamSpec, str], Server],
        patience_s: float,
        *,
        may_stop_at_list: bool = False,
    ) -> None:
        self._routes = routes
        self._endpoints = endpoints
        self._open_server = open_server
        self._patience_s = patience_s
        self._may_stop_at_list = may_stop_at_list

    async def check(self, specs: Sequence[UpstreamSpec]) -> list[ServerCheck]:
        """Return the outcomes for the servers, in the order of the specs and their URLs."""
        turns = asyncio.Semaphore(_MOST_AT_ONCE)
        return await asyncio.gather(*(self._check(spec, url, turns) for spec in specs for url in spec.urls))

    async def _check(self, spec: UpstreamSpec, url: str, turns: asyncio.Semaphore) -> ServerCheck:
        async with turns:
            server = self._open_server(spec, url)
            try:
                listed = await asyncio.wait_for(server.models(), self._patience_s)
            except TimeoutError:
                listed = None
            question = self._question(spec, listed)
            if question is not None and self._may_stop_at_list and listed is not None:
                unlisted = _unlisted(spec, listed)
                is_fine = not unlisted
                outcome = f"does not list {', '.join(unlisted)}" if unlisted else f"lists {question.model}"
            elif question is None:
                is_fine, outcome = await self._without_model(spec, url, server, listed)
            else:
                is_fine, outcome = await self._with_model(spec, server, question)
                unlisted = [model for model in _unlisted(spec, listed) if model != question.model]
                if is_fine and unlisted:
                    outcome += f"; does not list {', '.join(unlisted)}"
        ours = None if listed is None else tuple(model for model in listed if self._is_routed(model, spec))
        return ServerCheck(spec.name, url, is_fine, outcome, ours)

    async def _with_model(self, spec: UpstreamSpec, server: Server, question: _Question) -> tuple[bool, str]:
        began = time.perf_counter()
        answer = await self._ask(server, question)
        took_ms = (time.perf_counter() - began) * 1_000
        if answer.trouble is Trouble.NONE:
            return True, f"answers in {took_ms:,.0f} ms"
        return False, self._trouble(spec, answer, question)

    async def _without_model(
        self, spec: UpstreamSpec, url: str, server: Server, listed: list[str] | None
    ) -> tuple[bool, str]:
        """Find out as much as possible without a model to ask for."""
        if listed is not None:
            if not any(has_check(endpoint) for endpoint in self._endpoints_of(spec)):
                return True, "lists its models; there is no call to try its endpoints by"
            return False, "lists no model that lines for this upstream may name"
        question = _Question(CHAT, "none")
        answer = await self._ask(server, question)
        if answer.status in _KEY_REFUSED or answer.error is not None:
            return False, self._trouble(spec, answer, None)
        is_model_missing = _lacks_model(answer.status, _message_in(answer.body), question.model)
        if answer.status in _ENDPOINT_MISSING and not is_model_missing:
            return False, f"{answer.status} at {CHAT.removeprefix('/v1')} below this URL: {self._place_hint(url)}"
        return False, "lists no models: name one in full in models, so that it can be tried"

    def _place_hint(self, url: str) -> str:
        for path in (endpoint.removeprefix("/v1") for endpoint in self._endpoints):
            if url.endswith(path):
                return f"leave out {path} at the end of the URL"
        return "is this a model server?" if url.endswith("/v1") else "does the URL lack /v1?"

    async def _ask(self, server: Server, question: _Question) -> Answer:
        async def call(endpoint: str, body: bytes) -> Answer:
            return await server.call(endpoint, body, self._patience_s)

        return await make_check_call(call, question.endpoint, question.model)

    def _question(self, spec: UpstreamSpec, listed: list[str] | None) -> _Question | None:
        """Return the call to make, first for a model that is named and not listed: an unlisted model is in doubt."""
        models = (*_unlisted(spec, listed), *spec.named_models, *(listed or ()))
        for endpoint in self._endpoints_of(spec):
            if has_check(endpoint):
                for model in models:
                    if self._routes.route(model, endpoint) == spec.name:
                        return _Question(endpoint, model)
        return None

    def _endpoints_of(self, spec: UpstreamSpec) -> Iterator[str]:
        return (endpoint for endpoint in self._endpoints if spec.has_endpoint(endpoint))

    def _is_routed(self, model: str, spec: UpstreamSpec) -> bool:
        return any(self._routes.route(model, endpoint) == spec.name for endpoint in self._endpoints)

    def _trouble(self, spec: UpstreamSpec, answer: Answer, question: _Question | None) -> str:
        if answer.error is not None:
            return _shown(self._no_answer(answer.error), spec)
        status = answer.status
        if status in _KEY_REFUSED:
            return f"{status}: {_key_hint(spec)}"
        said = _message_in(answer.body)
        if question is not None and _lacks_model(status, said, question.model):
            return f"model {question.model} is not there"
        if question is not None and status in _ENDPOINT_MISSING:
            return _shown(f"{status} at {question.endpoint}: check the URL and endpoints; it says: {said}", spec)
        if status == _THROTTLED:
            return _shown(f"{status}: it takes no more calls now: {said}", spec)
        return _shown(f"{status}: {said}", spec)

    def _no_answer(self, error: tuple[str, str]) -> str:
        if error[0] == REQUEST_TIMEOUT[0]:
            return f"takes the call and does not answer within {self._patience_s:g} s"
        # The client's own message with the system's words.
        message = error[1].rstrip(".")
        if _REFUSED.search(message):
            return "refuses connections"
        if found := _CANNOT_CONNECT.fullmatch(message):
            return f"no connection: {found[1]}"
        return message[:1].lower() + message[1:]


def _unlisted(spec: UpstreamSpec, listed: list[str] | None) -> list[str]:
    return [] if listed is None else [model for model in spec.named_models if model not in listed]


def _key_hint(spec: UpstreamSpec) -> str:
    if spec.api_key_variable is None:
        return "it wants a key: name the variable that holds it by api_key_env"
    if spec.api_key is None:
        return f"it wants a key: put it into {spec.api_key_variable}"
    return f"check {spec.api_key_variable}"


def _lacks_model(status: int, said: str, model: str) -> bool:
    """Return whether a refusal is about the model: OpenAI, vLLM and Ollama answer 404, some proxies 400."""
    if "model_not_found" in said:
        return True
    return model in said and (status == 404 or (status in _BODY_REFUSED and bool(_MISSING.search(said))))


def _message_in(body: bytes) -> str:
    """Return the message and code in the body of a server's error, in any of the known shapes."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[:_MAX_SHOWN_CHARS].decode(errors="replace")
    error = said.get("error", said) if isinstance(said, dict) else said
    if not isinstance(error, dict):
        return str(error)
    parts = [error.get(key) for key in ("message", "detail", "code")]
    return " ".join(part for part in parts if isinstance(part, str)) or "it says no more"


def _shown(text: str, spec: UpstreamSpec) -> str:
    """Return a text for the terminal: a single line, not too long, and without a key that a server may repeat."""
    for secret in (spec.api_key, *spec.secrets):
        if secret:
            text = text.replace(secret, "…")
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"
