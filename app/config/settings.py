"""The settings, and how the settings are read."""

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
    """The choices of an operator. Durations are seconds."""

    data: Path
    host: str
    port: int
    workers: int
    concurrency: int
    api_key: str | None = field(repr=False)
    broker_url: str
    database_url: str
    storage_url: str
    # The file of the secret for hashes of API keys; part of every backup.
    secret_file: Path
    # The file with the upstreams; None if the upstream is from the environment.
    config: Path | None
    # The upstreams of the file, or else the single upstream of the environment.
    upstreams: tuple[UpstreamSpec, ...]
    endpoints: tuple[str, ...]
    completion_windows: tuple[str, ...]
    lines_per_task: int | None
    # How long a starting process waits for the database, the broker and the storage.
    start_wait_s: float
    cancel_grace_s: float
    drain_grace_s: float
    finalize_max_tries: int
    # The largest accepted answer. The answers of a worker together may take about three times as much memory.
    max_answer_mib: int
    # Whether lines with a common beginning are sent in a row.
    prefix_grouping: bool
    # A tenant's weight in the share-out of busy model servers; 1 for an unnamed tenant.
    tenant_weights: dict[str, float]
    # How much a batch's share grows towards the deadline: 0 is no growth, 1 twice the share at half the window.
    deadline_weight: float
    log_level: str
    # The origins of web pages allowed to call the API; `*` is every origin.
    cors_origins: tuple[str, ...]

    @property
    def storage_folder(self) -> Path:
        """The folder of the blobs; the whole path counts, also parts that elsewhere are a query or a fragment."""
        return Path(self.storage_url.removeprefix(FILE).removeprefix("localhost"))

    @cached_property
    def broker(self) -> BrokerAddress:
        """The broker's address, parsed."""
        return read_broker_address(self.broker_url)

    @property
    def longest_window_s(self) -> int:
        """The longest time a batch may take, in seconds."""
        return max(window_s(window) for window in self.completion_windows)

    @property
    def upstream_names(self) -> tuple[str, ...]:
        """The names of the upstreams, in the order of the file."""
        return tuple(spec.name for spec in self.upstreams)

    @cached_property
    def routes(self) -> Routes:
        """The routing of lines to upstreams."""
        return Routes(self.upstreams)


# Every field is a variable, except `upstreams`: OF_UPSTREAMS are the variables for details that no file gives.
VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in (*(each.name.upper() for each in fields(Settings) if each.name != "upstreams"), *OF_UPSTREAMS)
)


def load_settings(environ: Mapping[str, str] | None = None, process: Process = Process.UP) -> Settings:
    """Read and check the settings needed by a process; SettingInvalid names the first wrong variable.

    Args:
        environ: read instead of the process's environment.
        process: the reading process; settings that the process does not need keep their defaults.
    """
    given = needed_by(process, os.environ if environ is None else environ)
    if is_port_of_kubernetes(given):
        del given[f"{PREFIX}PORT"]
    for name in sorted(VARIABLES & given.keys()):
        try:
            given[name].encode()
        except UnicodeEncodeError:
            # Python keeps other bytes as surrogates, which no address and no log can carry. The value may be a secret.
            raise SettingInvalid(f"{name}: the value is not in UTF-8: write it in UTF-8.") from None
    try:
        return _read(_FixedEnv(given), given)
    except EnvError as fault:
        raise SettingInvalid(_with_prefix(str(fault))) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for every variable that looks like a setting and is none."""
    # WYLON_BASE_URL is not a setting: the client commands read it.
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
    """An environment given as a mapping, for tests and for a command preparing the environment of child processes."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(prefix=PREFIX)
        self._given = environ

    def _get_value(self, key: str, default: Any) -> Any:
        return self._given.get(key, default)
