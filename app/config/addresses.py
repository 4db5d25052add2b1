"""The addresses of outside services, and the data folder."""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from environs import Env
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.config.values import invalid
from app.domain.broker_address import read_broker_address

FILE = "file://"


def url(env: Env, name: str, default: str, schemes: tuple[str, ...]) -> str:
    """Read an address with a scheme from `schemes`."""
    value = env.str(name, default)
    try:
        _check_scheme(value, schemes)
    except ValueError as fault:
        raise invalid(name, str(fault)) from None
    return value


def _check_scheme(value: str, schemes: tuple[str, ...]) -> None:
    scheme = value.partition(":")[0].lower()
    if scheme.partition("+")[0] not in schemes and scheme not in schemes:
        raise ValueError(f"{masked(value)!r} is no address of a known kind: it must start with one of {schemes}")


def masked(url: str) -> str:
    """Return an address without possible passwords, before the host or in the query."""
    # An unescaped password may hold any separator: leave out the text before the last `@`.
    credentials, at, rest = url.rpartition("@")
    rest = rest.partition("?")[0]
    scheme, slashes, _ = credentials.partition("://")
    return f"{scheme if slashes else ''}{slashes}…@{rest}" if at else rest


def broker_url(env: Env) -> str:
    """Read the address of Redis or Valkey."""
    value = env.str("BROKER_URL", "redis://127.0.0.1:6379/0")
    try:
        _check_tls_files(read_broker_address(value).tls or {})
    except ValueError as fault:
        raise invalid("BROKER_URL", f"{masked(value)!r} can't be used: {fault}") from None
    return value


def _check_tls_files(tls: Mapping[str, Any]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority, own, folder = tls.get("ssl_ca_certs"), tls.get("ssl_certfile"), tls.get("ssl_ca_path")
    if folder and not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder} of ssl_ca_path")
    try:
        if authority:
            context.load_verify_locations(authority)
    except OSError as fault:
        raise ValueError(f"ssl_ca_certs={authority} can't be read: {fault.strerror or fault}") from None
    try:
        if own:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(own, tls.get("ssl_keyfile"), tls.get("ssl_password", ""))
    except OSError as fault:
        raise ValueError(f"ssl_certfile={own} and its key can't be read: {fault.strerror or fault}") from None


def database_url(env: Env, data: Path) -> str:
    """Read the address of the database, with a path made absolute."""
    name = "DATABASE_URL"
    default = URL.create("sqlite", database=str(data / "wylon.db")).render_as_string()
    value = url(env, name, default, ("sqlite", "postgresql", "postgres"))
    # Each of these characters ends a password: the rest of the password would count as the host, and be shown.
    if not value.lower().startswith("sqlite") and set("@/?#") & set(value.partition("://")[2].rpartition("@")[0]):
        raise invalid(name, "an @, /, ? or # of a user, a password or a parameter is written %40, %2F, %3F or %23")
    try:
        parsed = make_url(_with_hosts_in_query(value))
    except (ArgumentError, ValueError):
        # An unreadable address may hold a password anywhere: do not show the address.
        raise invalid(name, "it can't be read: give sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME") from None
    if parsed.get_backend_name().lower() != "sqlite":
        threshold = parsed.query.get("prepare_threshold", "0")
        if not (isinstance(threshold, str) and threshold.isascii() and threshold.isdecimal()):
            raise invalid(name, "prepare_threshold is a number: a statement is prepared once it ran so often")
        if unknown := _unknown_parameters(parsed):
            raise invalid(name, f"{masked(value)!r} has the parameter {unknown[0]!r}, which libpq does not know")
        return parsed.render_as_string(hide_password=False)
    if parsed.drivername != "sqlite" or parsed.host or not parsed.database or parsed.database == ":memory:":
        raise invalid(name, "SQLite needs the path of a file: sqlite:///PATH, with four slashes where it is absolute")
    path = _usable(name, Path(parsed.database).absolute())
    # The data folder is made at start; another folder must exist.
    if path.parent != data and not path.parent.is_dir():
        raise invalid(name, f"there is no folder {path.parent} for the database: make it, or correct the path")
    if path.is_dir():
        raise invalid(name, f"{path} is a folder: give the path of a file in it")
    return parsed.set(database=str(path)).render_as_string()


def _unknown_parameters(parsed: URL) -> list[str]:
    # Loads libpq, which a deployment on SQLite need not have.
    from psycopg.pq import Conninfo  # noqa: PLC0415

    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"prepare_threshold"}
    return sorted(parsed.query.keys() - known)


def _with_hosts_in_query(value: str) -> str:
    """Return an address of several servers in SQLAlchemy's spelling; libpq lists the servers in place of the host."""
    scheme, slashes, rest = value.partition("://")
    authority, slash, tail = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    if "," not in hosts:
        return value
    name, _, query = tail.partition("?")
    servers = "&".join(f"host={host}" for host in hosts.split(","))
    return f"{scheme}{slashes}{credentials}{at}{slash}{name}?{servers}{'&' if query else ''}{query}"


def database_path(address: str) -> Path | None:
    """Return the path of SQLite's file; None for another database."""
    parsed = make_url(address)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def storage_url(env: Env, data: Path) -> str:
    """Read the address of the storage."""
    value = url(env, "STORAGE_URL", f"{FILE}{data / 'blobs'}", ("file",))
    if not value.startswith((f"{FILE}/", f"{FILE}localhost/")):
        raise invalid("STORAGE_URL", f"{masked(value)!r} needs an absolute path, with three slashes: file:///PATH")
    return value


def upstream_url(env: Env) -> tuple[str, str]:
    """Read the base URL of the model server, and the query sent with every request."""
    base, _, query = env.str("UPSTREAM_URL", "http://127.0.0.1:8000/v1").partition("?")
    if {"#", "@"} & set(query):
        raise invalid("UPSTREAM_URL", "its query has a # or @: leave the part out, or write %23 or %40")
    try:
        return checked_model_server(base, "WYLON_UPSTREAM_API_KEY"), query
    except ValueError as fault:
        raise invalid("UPSTREAM_URL", str(fault)) from None


def checked_model_server(value: str, key_place: str) -> str:
    """Return the base URL of a model server without a slash at the end; ValueError names the fault.

    Args:
        value: the given address.
        key_place: the right place for a key, which the address must not hold.
    """
    _check_scheme(value, ("http", "https"))
    if " " in value or not value.isprintable():
        raise ValueError(f"{masked(value)!r} has a space or a character that is not shown: leave it out")
    try:
        parts = urlsplit(value)
        is_plain = bool(parts.hostname) and not (parts.username or parts.password or parts.query or parts.fragment)
        is_plain = is_plain and parts.port != 0
    except ValueError:
        is_plain = False
    if not is_plain:
        raise ValueError(f"{masked(value)!r} must be like http://HOST:PORT/v1, a key goes to {key_place}")
    return value.rstrip("/")


def data_folder(env: Env) -> Path:
    """Read the data folder, as an absolute path."""
    return given_path("DATA", env.str("DATA", "wylon-data"))


def file_path(env: Env, name: str, default: Path) -> Path:
    """Read the path of a file, as an absolute path."""
    value: str | None = env.str(name, None) or None
    return default if value is None else given_path(name, value)


def given_path(name: str, value: str) -> Path:
    """Return the absolute path; SettingInvalid if no file or folder can have the path."""
    if not value:
        raise invalid(name, "it is empty: give a path, or leave it out")
    try:
        path = Path(value).expanduser().absolute()
    except RuntimeError:
        raise invalid(name, f"{value!r} names the home of a user that is not known") from None
    return _usable(name, path)


def _usable(name: str, path: Path) -> Path:
    try:
        str(path).encode()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except UnicodeEncodeError:
        raise invalid(name, f"{str(path)!r} is not in UTF-8: choose another path") from None
    except OSError as fault:
        raise invalid(name, f"{path} can't be used: {fault.strerror}") from None
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            raise invalid(
                name, f"{part} is a link to {part.readlink()}, which is missing: make that, or correct the link"
            )
    return path
