"""Settings, and the only reader of the environment.

Each is a variable `WYLON_…`, named as the field in upper case; `docs/settings.md` is the table of them.
"""

import difflib
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from environs import Env, EnvError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.domain.errors import SettingInvalid
from app.domain.limits import DEFAULT_WINDOW, MAX_LINES
from app.domain.retry import RetryPolicy
from app.domain.window import window_s

PREFIX = "WYLON_"
_FILE = "file://"
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
    api_key: str | None
    broker_url: str
    database_url: str
    storage_url: str
    upstream_url: str
    upstream_api_key: str | None
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    completion_windows: tuple[str, ...]
    lines_per_task: int | None
    connect_timeout_s: float
    first_byte_timeout_s: float
    call_timeout_s: float
    max_tries: int
    cancel_grace_s: float
    drain_grace_s: float
    finalize_max_tries: int
    log_level: str

    @property
    def storage_folder(self) -> Path:
        """The folder where blobs are; all of the path counts, also what is a query or a fragment elsewhere."""
        return Path(self.storage_url.removeprefix(_FILE).removeprefix("localhost"))

    @property
    def redis_url(self) -> str:
        """The broker's address as redis-py spells it, which has other words than Celery for one in a socket."""
        return self.broker_url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)

    @property
    def longest_window_s(self) -> int:
        """The longest time that a batch may take."""
        return max(window_s(window) for window in self.completion_windows)

    @property
    def retry_policy(self) -> RetryPolicy:
        """When a line's call is made again."""
        return RetryPolicy(max_tries=self.max_tries)

    def serves(self, model: str) -> bool:
        """Return whether a line may ask for this model."""
        return any(fnmatch.fnmatchcase(model, glob) for glob in self.models)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check all settings; SettingInvalid names the first variable that is wrong.

    Args:
        environ: read instead of the process's environment.
    """
    env = Env(prefix=PREFIX) if environ is None else _FixedEnv(environ)
    try:
        return _read(env)
    except EnvError as fault:
        raise SettingInvalid(_with_prefix(str(fault))) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like a setting and is none."""
    # The client commands read the one that is no field.
    known = {f"{PREFIX}{field.name.upper()}" for field in fields(Settings)} | {f"{PREFIX}BASE_URL"}
    warnings = []
    for name in sorted(name for name in environ if name.startswith(PREFIX) and name not in known):
        nearest = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "docs/settings.md lists those there are."
        warnings.append(f"Warning: {name} is no setting and is ignored: {hint}")
    return warnings


def _read(env: Env) -> Settings:
    data = _data(env)
    settings = Settings(
        data=data,
        host=env.str("HOST", "127.0.0.1"),
        port=_number(env, "PORT", 8080, low=0, high=65_535),
        workers=_number(env, "WORKERS", 1, low=1, high=256),
        concurrency=_number(env, "CONCURRENCY", 64, low=1, high=4_096),
        api_key=_header_text(env, "API_KEY"),
        broker_url=_broker_url(env),
        database_url=_database_url(env, data),
        storage_url=_storage_url(env, data),
        upstream_url=_upstream_url(env),
        upstream_api_key=_header_text(env, "UPSTREAM_API_KEY"),
        models=_words(env, "MODELS", ("*",)),
        endpoints=_words(env, "ENDPOINTS", DEFAULT_ENDPOINTS),
        completion_windows=_words(env, "COMPLETION_WINDOWS", (DEFAULT_WINDOW,)),
        lines_per_task=_lines_per_task(env),
        connect_timeout_s=_seconds(env, "CONNECT_TIMEOUT_S", 10.0),
        first_byte_timeout_s=_seconds(env, "FIRST_BYTE_TIMEOUT_S", 600.0),
        call_timeout_s=_seconds(env, "CALL_TIMEOUT_S", 900.0),
        max_tries=_number(env, "MAX_TRIES", 5, low=1, high=100),
        cancel_grace_s=_seconds(env, "CANCEL_GRACE_S", 30.0, low=0.0),
        drain_grace_s=_seconds(env, "DRAIN_GRACE_S", 6.0, low=0.0),
        finalize_max_tries=_number(env, "FINALIZE_MAX_TRIES", 100, low=1, high=1_000_000),
        log_level=_log_level(env),
    )
    for window in settings.completion_windows:
        try:
            window_s(window)
        except ValueError as fault:
            raise _invalid("COMPLETION_WINDOWS", str(fault)) from None
    for endpoint in settings.endpoints:
        if not endpoint.startswith("/v1/"):
            raise _invalid("ENDPOINTS", f"{endpoint!r} is no endpoint: it must start with /v1/")
    return settings


def _invalid(name: str, message: str) -> SettingInvalid:
    return SettingInvalid(f"{PREFIX}{name}: {message}.")


def _with_prefix(message: str) -> str:
    return message if PREFIX in message else f"{PREFIX}: {message}"


def _number(env: Env, name: str, default: int, *, low: int, high: int) -> int:
    value = env.int(name, default)
    if not low <= value <= high:
        raise _invalid(name, f"{value} is not between {low} and {high}")
    return value


def _seconds(env: Env, name: str, default: float, *, low: float = 0.001, high: float = 86_400.0) -> float:
    text = env.str(name, str(default))
    try:
        value = float(text)
    except ValueError:
        raise _invalid(name, f"{text!r} is no number of seconds") from None
    # Nor is `nan` between any two numbers.
    if not low <= value <= high:
        raise _invalid(name, f"{value:g} is not between {low:g} and {high:g} seconds")
    return value


def _words(env: Env, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    words = tuple(word.strip() for word in env.str(name, ",".join(default)).split(",") if word.strip())
    if not words:
        raise _invalid(name, "the list is empty: give one or more values with commas between them")
    return words


def _url(env: Env, name: str, default: str, schemes: tuple[str, ...]) -> str:
    value = env.str(name, default)
    scheme = value.partition(":")[0].lower()
    if scheme.partition("+")[0] not in schemes and scheme not in schemes:
        raise _invalid(name, f"{_masked(value)!r} is no address of a known kind: it must start with one of {schemes}")
    return value


def _broker_url(env: Env) -> str:
    value = _url(env, "BROKER_URL", "redis://127.0.0.1:6379/0", ("redis", "rediss", "redis+socket"))
    try:
        # Read for its complaint alone.
        _ = urlsplit(value).port
    except ValueError:
        raise _invalid("BROKER_URL", f"the host or port of {_masked(value)!r} can't be read") from None
    return value


def _database_url(env: Env, data: Path) -> str:
    name = "DATABASE_URL"
    value = _url(env, name, f"sqlite:///{data / 'wylon.db'}", ("sqlite", "postgresql", "postgres"))
    try:
        parsed = make_url(value)
    except (ArgumentError, ValueError):
        # What can't be read may hold a password anywhere: it is not shown.
        raise _invalid(name, "it can't be read: give sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME") from None
    if parsed.get_backend_name().lower() != "sqlite":
        return value
    if parsed.drivername != "sqlite" or parsed.host or not parsed.database or parsed.database == ":memory:":
        raise _invalid(name, "SQLite needs the path of a file: sqlite:///PATH, with four slashes where it is absolute")
    path = Path(parsed.database).absolute()
    # The data folder is made at start, any other has to be there.
    if path.parent != data and not path.parent.is_dir():
        raise _invalid(name, f"there is no folder {path.parent} for the database: make it, or correct the path")
    if path.is_dir():
        raise _invalid(name, f"{path} is a folder: give the path of a file in it")
    return value


def _storage_url(env: Env, data: Path) -> str:
    value = _url(env, "STORAGE_URL", f"{_FILE}{data / 'blobs'}", ("file",))
    if not value.startswith((f"{_FILE}/", f"{_FILE}localhost/")):
        raise _invalid("STORAGE_URL", f"{_masked(value)!r} needs an absolute path, with three slashes: file:///PATH")
    return value


def _upstream_url(env: Env) -> str:
    value = _url(env, "UPSTREAM_URL", "http://127.0.0.1:8000/v1", ("http", "https"))
    try:
        parts = urlsplit(value)
        is_plain = bool(parts.hostname) and not (parts.username or parts.password or parts.query or parts.fragment)
        is_plain = is_plain and parts.port != 0
    except ValueError:
        is_plain = False
    if not is_plain:
        raise _invalid(
            "UPSTREAM_URL", f"{_masked(value)!r} must be like http://HOST:PORT/v1, a key goes to WYLON_UPSTREAM_API_KEY"
        )
    return value.rstrip("/")


def _header_text(env: Env, name: str) -> str | None:
    value: str | None = env.str(name, None) or None
    if value is not None and not (value.isascii() and value.isprintable()):
        raise _invalid(name, "it has characters that no header can carry")
    if value is not None and value != value.strip():
        raise _invalid(name, "it starts or ends with a space, which no header keeps")
    return value


def _masked(url: str) -> str:
    """Return an address without what may be a password: before the host, or in the query."""
    credentials, at, rest = url.partition("?")[0].rpartition("@")
    scheme, slashes, _ = credentials.partition("://")
    return f"{scheme if slashes else ''}{slashes}…@{rest}" if at else rest


def _data(env: Env) -> Path:
    value = env.str("DATA", "wylon-data")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise _invalid("DATA", f"{value!r} names the home of a user that is not known") from None


def _lines_per_task(env: Env) -> int | None:
    value = env.str("LINES_PER_TASK", "auto")
    if value == "auto":
        return None
    if not value.isdecimal() or not 1 <= int(value) <= MAX_LINES:
        raise _invalid("LINES_PER_TASK", f"{value!r} is neither auto nor a number from 1 to {MAX_LINES}")
    return int(value)


def _log_level(env: Env) -> str:
    value = env.str("LOG_LEVEL", "info").lower()
    if value not in {"debug", "info", "warning", "error"}:
        raise _invalid("LOG_LEVEL", f"{value!r} is none of debug, info, warning, error")
    return value


class _FixedEnv(Env):
    """An environment given as a mapping, for tests and for a command that prepares its children's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(prefix=PREFIX)
        self._given = environ

    def _get_value(self, key: str, default: Any) -> Any:
        return self._given.get(key, default)
