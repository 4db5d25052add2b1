"""The settings, and how all of them are read."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from environs import Env, EnvError

from app.config.addresses import FILE, broker_url, data_folder, database_url, file_path, storage_url
from app.config.kubernetes import PORT_WARNING, is_of_kubernetes, is_port_of_kubernetes
from app.config.process import OF_UPSTREAMS, Process, needed_by
from app.config.upstreams import MAX_TRIES, CallLimits, read_upstreams
from app.config.values import (
    PREFIX,
    decimal,
    header_text,
    invalid,
    lines_per_task,
    log_level,
    number,
    origins,
    seconds,
    switch,
    weights,
    words,
)
from app.domain.broker_address import BrokerAddress, read_broker_address
from app.domain.errors import SettingInvalid
from app.domain.limits import DEFAULT_WINDOW, MAX_ANSWER_MIB
from app.domain.upstream import Routes, UpstreamSpec
from app.domain.window import window_s

DEFAULT_ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/moderations",
)


@dataclass(frozen=True)
class Settings:
    """Everything an operator can choose. Durations are seconds."""

    data: Path
    host: str
    port: int
    workers: int
    concurrency: int
    api_key: str | None = field(repr=False)
    broker_url: str
    database_url: str
    storage_url: str
    # What the hashes of API keys are made with; part of every backup.
    secret_file: Path
    # The file that the upstreams are from; None where they are from the environment.
    config: Path | None
    # Those of that file, else the one of the environment.
    upstreams: tuple[UpstreamSpec, ...]
    endpoints: tuple[str, ...]
    completion_windows: tuple[str, ...]
    lines_per_task: int | None
    # How long a process that starts waits for its database, its broker and its storage.
    start_wait_s: float
    cancel_grace_s: float
    drain_grace_s: float
    finalize_max_tries: int
    # The largest answer that is taken. All answers of a worker together may take about three times as much.
    max_answer_mib: int
    # Whether lines that begin alike are sent one after the other.
    prefix_grouping: bool
    # What a tenant gets of the model servers while others want them, too; 1 for those that are not named.
    tenant_weights: dict[str, float]
    # How much more a batch gets as its deadline comes nearer: 0 is nothing, 1 twice as much at half its window.
    deadline_weight: float
    log_level: str
    # The origins of web pages that may call the API; `*` is every one.
    cors_origins: tuple[str, ...]

    @property
    def storage_folder(self) -> Path:
        """The folder where blobs are; all of the path counts, also what is a query or a fragment elsewhere."""
        return Path(self.storage_url.removeprefix(FILE).removeprefix("localhost"))

    @cached_property
    def broker(self) -> BrokerAddress:
        """The broker's address, read."""
        return read_broker_address(self.broker_url)

    @property
    def longest_window_s(self) -> int:
        """The longest time that a batch may take."""
        return max(window_s(window) for window in self.completion_windows)

    @property
    def upstream_names(self) -> tuple[str, ...]:
        """The names of the upstreams, in the order of the file."""
        return tuple(spec.name for spec in self.upstreams)

    @cached_property
    def routes(self) -> Routes:
        """Which upstream a line goes to."""
        return Routes(self.upstreams)


# Each field is a variable, but for the upstreams, of which some variables say what a file does not.
VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in (*(each.name.upper() for each in fields(Settings) if each.name != "upstreams"), *OF_UPSTREAMS)
)


def load_settings(environ: Mapping[str, str] | None = None, process: Process = Process.UP) -> Settings:
    """Read and check the settings that a process needs; SettingInvalid names the first variable that is wrong.

    Args:
        environ: read instead of the process's environment.
        process: what reads them; settings that it does not need are at their defaults.
    """
    given = needed_by(process, os.environ if environ is None else environ)
    if is_port_of_kubernetes(given):
        del given[f"{PREFIX}PORT"]
    try:
        return _read(_FixedEnv(given), given)
    except EnvError as fault:
        raise SettingInvalid(_with_prefix(str(fault))) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like a setting and is none."""
    # The client commands read the one that is no setting.
    known = VARIABLES | {f"{PREFIX}BASE_URL"}
    warnings = []
    if is_port_of_kubernetes(environ):
        warnings.append(PORT_WARNING)
    names = {name for name in environ if name.startswith(PREFIX) and not is_of_kubernetes(name)}
    for name in sorted(names - known):
        nearest = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "docs/settings.md lists those there are."
        warnings.append(f"Warning: {name} is no setting and is ignored: {hint}")
    return warnings


def _read(env: Env, environ: Mapping[str, str]) -> Settings:
    data = data_folder(env)
    endpoints = _endpoints(env)
    limits = CallLimits(
        connect_timeout_s=seconds(env, "CONNECT_TIMEOUT_S", 10.0),
        first_byte_timeout_s=seconds(env, "FIRST_BYTE_TIMEOUT_S", 3_600.0),
        call_timeout_s=seconds(env, "CALL_TIMEOUT_S", 7_200.0),
        max_tries=number(env, "MAX_TRIES", 5, low=1, high=MAX_TRIES),
    )
    config, upstreams = read_upstreams(env, environ, limits, endpoints)
    settings = Settings(
        data=data,
        host=env.str("HOST", "127.0.0.1"),
        port=number(env, "PORT", 8080, low=0, high=65_535),
        workers=number(env, "WORKERS", 1, low=1, high=256),
        concurrency=number(env, "CONCURRENCY", 64, low=1, high=4_096),
        api_key=header_text(env, "API_KEY"),
        broker_url=broker_url(env),
        database_url=database_url(env, data),
        storage_url=storage_url(env, data),
        secret_file=file_path(env, "SECRET_FILE", data / "secret"),
        config=config,
        upstreams=upstreams,
        endpoints=endpoints,
        completion_windows=words(env, "COMPLETION_WINDOWS", (DEFAULT_WINDOW,)),
        lines_per_task=lines_per_task(env),
        start_wait_s=seconds(env, "START_WAIT_S", 60.0, low=0.0),
        cancel_grace_s=seconds(env, "CANCEL_GRACE_S", 30.0, low=0.0),
        drain_grace_s=seconds(env, "DRAIN_GRACE_S", 6.0, low=0.0),
        finalize_max_tries=number(env, "FINALIZE_MAX_TRIES", 100, low=1, high=1_000_000),
        max_answer_mib=number(env, "MAX_ANSWER_MIB", MAX_ANSWER_MIB, low=1, high=512),
        prefix_grouping=switch(env, "PREFIX_GROUPING", "on"),
        tenant_weights=weights(env, "TENANT_WEIGHTS"),
        deadline_weight=decimal(env, "DEADLINE_WEIGHT", 1.0, low=0.0, high=10.0),
        log_level=log_level(env),
        cors_origins=origins(env, "CORS_ORIGINS"),
    )
    for window in settings.completion_windows:
        try:
            window_s(window)
        except ValueError as fault:
            raise invalid("COMPLETION_WINDOWS", str(fault)) from None
    return settings


def _endpoints(env: Env) -> tuple[str, ...]:
    endpoints = words(env, "ENDPOINTS", DEFAULT_ENDPOINTS)
    for endpoint in endpoints:
        if not endpoint.startswith("/v1/"):
            raise invalid("ENDPOINTS", f"{endpoint!r} is no endpoint: it must start with /v1/")
    return endpoints


def _with_prefix(message: str) -> str:
    return message if PREFIX in message else f"{PREFIX}: {message}"


class _FixedEnv(Env):
    """An environment given as a mapping, for tests and for a command that prepares its children's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(prefix=PREFIX)
        self._given = environ

    def _get_value(self, key: str, default: Any) -> Any:
        return self._given.get(key, default)
