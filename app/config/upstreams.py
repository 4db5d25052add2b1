"""The upstreams of `wylon.toml`, or the single upstream described by the environment."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from environs import Env

from app.config.addresses import checked_model_server, upstream_url
from app.config.toml_table import Table, read_toml
from app.config.upstream_requests import VARIABLE, query_of_url, read_additions, read_model_limits
from app.config.values import PREFIX, header_text, invalid, unfit_for_header, words
from app.domain.errors import SettingInvalid
from app.domain.upstream import DEFAULT_UPSTREAM, UpstreamSpec

FILE_NAME = "wylon.toml"
# Upstreams are asked for models in parallel, and every URL has separate connections in every worker.
MAX_UPSTREAMS = 64
MAX_URLS = 64
# A provider with more models takes a pattern.
MAX_MODELS = 1_000
# The maximum of WYLON_WORKERS × WYLON_CONCURRENCY, rounded; a higher limit never takes effect.
MAX_IN_FLIGHT = 1_000_000
# Far beyond the rates sold by providers; a higher number is a slip.
MAX_REQUESTS_PER_MINUTE = 10_000_000
MAX_TOKENS_PER_MINUTE = 10_000_000_000
MAX_TRIES = 100

# Details that the environment gives for its single upstream, and the file for every upstream.
_REPLACED = ("UPSTREAM_URL", "UPSTREAM_API_KEY", "MODELS")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# The keys allowed in a table.
KEYS = (
    "urls",
    "models",
    "endpoints",
    "api_key_env",
    "max_in_flight",
    "requests_per_minute",
    "tokens_per_minute",
    "adaptive",
    "latency_target_s",
    "connect_timeout_s",
    "first_byte_timeout_s",
    "call_timeout_s",
    "max_tries",
    "limits",
    "query",
    "headers",
    "body",
)
_NO_KEY_HERE = "the file holds no keys: put it into an environment variable, and the variable's name into api_key_env"
_HINTS = {
    "api_key": _NO_KEY_HERE,
    "key": _NO_KEY_HERE,
    "url": "did you mean urls, a list?",
    "params": "did you mean query?",
    "header": "did you mean headers?",
    "extra_body": "did you mean body?",
    "extra_headers": "did you mean headers?",
}


class CallLimits(NamedTuple):
    """The environment's limits on calls; an upstream of the file may override the limits."""

    connect_timeout_s: float
    first_byte_timeout_s: float
    call_timeout_s: float
    max_tries: int


def _config_path(env: Env) -> Path | None:
    """Return the absolute path of the configuration file; None if no file is used.

    An empty WYLON_CONFIG means no file, even if the current folder has a file.
    """
    given: str | None = env.str("CONFIG", None)
    if given == "":
        return None
    path = Path(FILE_NAME if given is None else given)
    try:
        path = path.expanduser().absolute()
    except RuntimeError:
        raise invalid("CONFIG", f"{given!r} names the home of a user that is not known") from None
    try:
        is_there = path.exists()
    except OSError as fault:
        raise invalid("CONFIG", f"{path} can't be read: {fault.strerror}") from None
    if not is_there and given is not None:
        raise invalid("CONFIG", f"there is no file {path}")
    return path if is_there else None


def read_upstreams(
    env: Env, environ: Mapping[str, str], limits: CallLimits, endpoints: Sequence[str]
) -> tuple[Path | None, tuple[UpstreamSpec, ...]]:
    """Return the file and its upstreams in file order; None and the environment's upstream if no file has upstreams.

    Args:
        env: reads settings.
        environ: holds the API keys in variables named by the file.
        limits: defaults for an upstream without limits in the file.
        endpoints: endpoints allowed for a batch.
    """
    path = _config_path(env)
    if path is not None and (upstreams := _of_file(path, environ, limits, endpoints)):
        return path, upstreams
    return None, (_of_environment(env, limits),)


def _of_environment(env: Env, limits: CallLimits) -> UpstreamSpec:
    key = header_text(env, "UPSTREAM_API_KEY")
    url, query = upstream_url(env)
    return UpstreamSpec(
        DEFAULT_UPSTREAM,
        (url,),
        query=query_of_url(query),
        models=words(env, "MODELS", ("*",)),
        api_key=key,
        api_key_variable=f"{PREFIX}UPSTREAM_API_KEY",
        connect_timeout_s=limits.connect_timeout_s,
        first_byte_timeout_s=limits.first_byte_timeout_s,
        call_timeout_s=limits.call_timeout_s,
        max_tries=limits.max_tries,
    )


def _of_file(
    path: Path, environ: Mapping[str, str], limits: CallLimits, endpoints: Sequence[str]
) -> tuple[UpstreamSpec, ...]:
    document = read_toml(path)
    Table(path, "", document).check_keys(("upstreams",), {"upstream": "did you mean [upstreams.NAME]?"})
    tables = document.get("upstreams", {})
    if not isinstance(tables, dict):
        raise SettingInvalid(f"{path}: upstreams: write a table [upstreams.NAME] for each.")
    if len(tables) > MAX_UPSTREAMS:
        raise SettingInvalid(f"{path}: [upstreams]: it has {len(tables):,} upstreams: {MAX_UPSTREAMS} is the most.")
    for name, values in tables.items():
        if not isinstance(values, dict):
            raise SettingInvalid(f"{path}: [upstreams] {name[:32]!r}: it must be a table [upstreams.NAME] with urls.")
        if not _NAME.fullmatch(name):
            raise SettingInvalid(
                f"{path}: [upstreams.{name[:40]!r}]: a name has up to 32 of a-z, 0-9, _ and -, a letter or digit first."
            )
    if tables:
        _refuse_both(path, environ)
    return tuple(
        _upstream(Table(path, f"upstreams.{name}", values), name, environ, limits, endpoints)
        for name, values in tables.items()
    )


def _refuse_both(path: Path, environ: Mapping[str, str]) -> None:
    given = [f"{PREFIX}{name}" for name in _REPLACED if environ.get(f"{PREFIX}{name}")]
    if given:
        raise SettingInvalid(
            f"{', '.join(given)}: {path} says where the upstreams are, so please remove {' and '.join(given)} "
            f"from the environment; or set {PREFIX}CONFIG to nothing, and the file is not used."
        )


def _upstream(
    table: Table, name: str, environ: Mapping[str, str], limits: CallLimits, endpoints: Sequence[str]
) -> UpstreamSpec:
    table.check_keys(KEYS, _HINTS)
    variable, key = _key(table, environ)
    query, headers, body, secrets = read_additions(table, environ, has_key=key is not None)
    spec = UpstreamSpec(
        name,
        _urls(table),
        models=table.texts("models", most=MAX_MODELS, example='["llama-*", "mistral-7b"]') or ("*",),
        endpoints=_endpoints(table, endpoints),
        api_key=key,
        api_key_variable=variable,
        max_in_flight=table.number("max_in_flight", low=1, high=MAX_IN_FLIGHT),
        requests_per_minute=table.number("requests_per_minute", low=1, high=MAX_REQUESTS_PER_MINUTE),
        tokens_per_minute=table.number("tokens_per_minute", low=1, high=MAX_TOKENS_PER_MINUTE),
        is_adaptive=table.switch("adaptive", True),
        latency_target_s=table.seconds("latency_target_s"),
        connect_timeout_s=table.seconds("connect_timeout_s") or limits.connect_timeout_s,
        first_byte_timeout_s=table.seconds("first_byte_timeout_s") or limits.first_byte_timeout_s,
        call_timeout_s=table.seconds("call_timeout_s") or limits.call_timeout_s,
        max_tries=table.number("max_tries", low=1, high=MAX_TRIES) or limits.max_tries,
        first_byte_setting=_setting(table, "first_byte_timeout_s"),
        call_setting=_setting(table, "call_timeout_s"),
        query=query,
        headers=headers,
        body=body,
        secrets=secrets,
    )
    return replace(spec, model_limits=read_model_limits(table, spec.time_limits))


def _setting(table: Table, key: str) -> str:
    return table.place(key) if table.is_given(key) else f"{PREFIX}{key.upper()}"


def _urls(table: Table) -> tuple[str, ...]:
    urls = table.texts("urls", most=MAX_URLS, example='["http://HOST:PORT/v1"]')
    if urls is None:
        raise table.fault("urls", 'it is missing: give the model servers, as in urls = ["http://HOST:PORT/v1"]')
    if any("?" in url for url in urls):
        raise table.fault(
            "urls", 'put what follows the question mark into query, as in query = { api-version = "2024-10-21" }'
        )
    try:
        checked = tuple(checked_model_server(url, "the variable of api_key_env") for url in urls)
    except ValueError as fault:
        raise table.fault("urls", str(fault)) from None
    if len(set(checked)) < len(checked):
        raise table.fault("urls", "an entry is there twice")
    return checked


def _endpoints(table: Table, known: Sequence[str]) -> tuple[str, ...] | None:
    endpoints = table.texts("endpoints", most=len(known), example='["/v1/chat/completions"]')
    for endpoint in endpoints or ():
        if endpoint not in known:
            nearest = get_close_matches(endpoint, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
            raise table.fault("endpoints", f"{endpoint!r} is none of {PREFIX}ENDPOINTS: {hint}")
    return endpoints


def _key(table: Table, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the variable and the key in the variable."""
    name = "api_key_env"
    variable = table.text(name)
    if variable is None:
        return None, None
    if not VARIABLE.fullmatch(variable):
        raise table.fault(
            name, "it must be the name of an environment variable, in capitals such as GPU_KEY, not a key"
        )
    if variable.startswith(PREFIX):
        raise table.fault(name, f"names with {PREFIX} are those of settings: give the variable another name")
    key = environ.get(variable)
    if not key:
        raise table.fault(name, f"there is no environment variable {variable}, or it is empty")
    if unfit := unfit_for_header(key):
        raise table.fault(name, f"the key in {variable} can't be used: {unfit}")
    return variable, key
