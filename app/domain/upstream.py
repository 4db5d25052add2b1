"""The model servers that lines go to, and which of them has a line's model."""

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import translate
from typing import NamedTuple

# Also the name of the one upstream that the environment alone describes.
DEFAULT_UPSTREAM = "default"
_WILDCARDS = re.compile(r"[*?\[]")


class TimeLimit(NamedTuple):
    """How long something may take, and the setting that says so, for messages."""

    seconds: float
    setting: str


class TimeLimits(NamedTuple):
    """How long an upstream may be silent in a call, and how long a whole call may take."""

    first_byte: TimeLimit
    call: TimeLimit


@dataclass(frozen=True)
class UpstreamSpec:
    """One upstream: servers that have the same models, and how they may be called. Durations are seconds."""

    name: str
    # Each with its `/v1`.
    urls: tuple[str, ...]
    _: KW_ONLY
    # Names or patterns such as `llama-*`.
    models: tuple[str, ...] = ("*",)
    # None is every endpoint that a batch may be for.
    endpoints: tuple[str, ...] | None = None
    api_key: str | None = field(default=None, repr=False)
    # The environment variable that the key was read from, for messages.
    api_key_variable: str | None = None
    # Over all workers together; None leaves each worker its own limit.
    max_in_flight: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    is_adaptive: bool = True
    latency_target_s: float | None = None
    connect_timeout_s: float
    first_byte_timeout_s: float
    call_timeout_s: float
    max_tries: int
    # Where these two times are set, for messages.
    first_byte_setting: str = "WYLON_FIRST_BYTE_TIMEOUT_S"
    call_setting: str = "WYLON_CALL_TIMEOUT_S"
    # Other times for models by name or pattern; the first that matches holds.
    model_limits: tuple[tuple[str, TimeLimits], ...] = ()
    # What each request has beside the endpoint, the key and the line's own: a query as it stands in a URL, headers, and
    # members of the body with their JSON, which are added where the line has none of that name.
    query: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: tuple[tuple[str, bytes], ...] = ()
    # Values of environment variables in query and headers, which nobody may be shown.
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def time_limits(self) -> TimeLimits:
        """How long calls may take, but for the models that have times of their own."""
        return TimeLimits(
            TimeLimit(self.first_byte_timeout_s, self.first_byte_setting),
            TimeLimit(self.call_timeout_s, self.call_setting),
        )

    @property
    def longest_call_s(self) -> float:
        """The longest time that a call for any model may take."""
        return max(self.call_timeout_s, *(limits.call.seconds for _, limits in self.model_limits), 0.0)

    @property
    def named_models(self) -> tuple[str, ...]:
        """The models that are named in full, not by a pattern."""
        return tuple(model for model in self.models if not _WILDCARDS.search(model))

    def has_endpoint(self, endpoint: str) -> bool:
        """Return whether lines for this endpoint may go here."""
        return self.endpoints is None or endpoint in self.endpoints


class Routes:
    """Which upstream a line goes to: the first in the order of the specs that has its model and its endpoint."""

    def __init__(self, specs: Sequence[UpstreamSpec]) -> None:
        self._routes = [(spec, _pattern_of(spec.models)) for spec in specs]

    def route(self, model: str | None, endpoint: str) -> str | None:
        """Return the name of the upstream, None where there is none.

        A line without a model leaves the choice to the server: the first upstream that has the endpoint takes it.
        """
        for spec, pattern in self._routes:
            if spec.has_endpoint(endpoint) and (model is None or pattern.match(model)):
                return spec.name
        return None

    def serves(self, model: str) -> bool:
        """Return whether an upstream has this model, for any endpoint."""
        return any(pattern.match(model) for _, pattern in self._routes)

    def idle(self) -> list[str]:
        """Return the names of upstreams that no line can go to, as those before them have all that they have.

        Two patterns are compared as far as stars go: one that is covered by several together is not found.
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
    # A star takes whatever another star or a question mark stands for; what these would take is unknown.
    simple = [pattern for pattern in before.models if not set("?[") & set(pattern)]
    return glob in before.models or bool(simple and _pattern_of(simple).match(glob))


def _pattern_of(globs: Sequence[str]) -> re.Pattern[str]:
    # One pattern compiled once: a file may name thousands of models, and fnmatch keeps few patterns.
    return re.compile("|".join(translate(glob) for glob in globs))
