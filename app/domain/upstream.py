"""Upstreams: the model servers that lines go to, and the route from a line's model to an upstream."""

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import translate
from typing import NamedTuple

# Also the name of the single upstream that the environment alone describes.
DEFAULT_UPSTREAM = "default"
_WILDCARDS = re.compile(r"[*?\[]")


class TimeLimit(NamedTuple):
    """A time limit, and the name of its setting, for messages."""

    seconds: float
    setting: str


class TimeLimits(NamedTuple):
    """How long an upstream may be silent in a call, and how long a whole call may take."""

    first_byte: TimeLimit
    call: TimeLimit


@dataclass(frozen=True)
class UpstreamSpec:
    """An upstream: servers with the same models, and how to call them. Durations are seconds."""

    name: str
    # Each URL includes `/v1`.
    urls: tuple[str, ...]
    _: KW_ONLY
    # Names, or patterns such as `llama-*`.
    models: tuple[str, ...] = ("*",)
    # None means every endpoint open to batches.
    endpoints: tuple[str, ...] | None = None
    api_key: str | None = field(default=None, repr=False)
    # The environment variable for the key, for messages; the variable may be unset.
    api_key_variable: str | None = None
    # The limit of all workers together; None leaves every worker with a limit of its own.
    max_in_flight: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    is_adaptive: bool = True
    latency_target_s: float | None = None
    connect_timeout_s: float
    first_byte_timeout_s: float
    call_timeout_s: float
    max_tries: int
    # The settings of these two timeouts, for messages.
    first_byte_setting: str = "WYLON_FIRST_BYTE_TIMEOUT_S"
    call_setting: str = "WYLON_CALL_TIMEOUT_S"
    # Time limits of single models, by name or pattern; the first match holds.
    model_limits: tuple[tuple[str, TimeLimits], ...] = ()
    # Additions to each request, beside the endpoint, the key and the line's own parts: a query as written in a URL,
    # headers, and members of the body as JSON. A member is added only if the line has no member of that name.
    query: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: tuple[tuple[str, bytes], ...] = ()
    # Values of environment variables in query and headers; nobody may see them.
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def time_limits(self) -> TimeLimits:
        """How long calls may take, except for models with time limits of their own."""
        return TimeLimits(
            TimeLimit(self.first_byte_timeout_s, self.first_byte_setting),
            TimeLimit(self.call_timeout_s, self.call_setting),
        )

    @property
    def longest_call_s(self) -> float:
        """The longest time that a call may take, for any model."""
        return max(self.call_timeout_s, *(limits.call.seconds for _, limits in self.model_limits), 0.0)

    @property
    def named_models(self) -> tuple[str, ...]:
        """The models named in full, not by a pattern."""
        return tuple(model for model in self.models if not _WILDCARDS.search(model))

    def has_endpoint(self, endpoint: str) -> bool:
        """Return whether lines for `endpoint` may go to this upstream."""
        return self.endpoints is None or endpoint in self.endpoints


class Routes:
    """Routes of lines: a line goes to the first upstream, in the order of the specs, with its model and endpoint."""

    def __init__(self, specs: Sequence[UpstreamSpec]) -> None:
        self._routes = [(spec, _pattern_of(spec.models)) for spec in specs]

    def route(self, model: str | None, endpoint: str) -> str | None:
        """Return the name of the upstream; None if no upstream matches.

        A line without a model leaves the choice to the server: the first upstream with the endpoint takes the line.
        """
        for spec, pattern in self._routes:
            if spec.has_endpoint(endpoint) and (model is None or pattern.match(model)):
                return spec.name
        return None

    def serves(self, model: str) -> bool:
        """Return whether an upstream has `model`, for any endpoint."""
        return any(pattern.match(model) for _, pattern in self._routes)

    def idle(self) -> list[str]:
        """Return the names of upstreams that no line can reach, as earlier upstreams have the models and endpoints.

        Patterns are compared as far as stars go: a pattern that only several patterns together cover is not found.
        """
        specs = [spec for spec, _ in self._routes]
        return [
            spec.name
            for number, spec in enumerate(specs)
            if all(any(_covers(before, glob, spec.endpoints) for before in specs[:number]) for glob in spec.models)
        ]


def _covers(before: UpstreamSpec, glob: str, endpoints: tuple[str, ...] | None) -> bool:
    if before.endpoints is not None and (endpoints is None or not set(endpoints) <= set(before.endpoints)):
        return False
    # A star covers every star or question mark. Patterns with `?` or `[` are left out, because their reach is unknown.
    simple = [pattern for pattern in before.models if not set("?[") & set(pattern)]
    return glob in before.models or bool(simple and _pattern_of(simple).match(glob))


def _pattern_of(globs: Sequence[str]) -> re.Pattern[str]:
    # A single pattern, compiled once: a file may name thousands of models, and fnmatch caches few patterns.
    return re.compile("|".join(translate(glob) for glob in globs))
