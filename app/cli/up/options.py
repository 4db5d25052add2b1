"""Merge a command's options with the environment, for settings and for child processes."""

import os
from collections.abc import Mapping

from app.config import PREFIX, Settings, foreign_variables, leave_out_foreign

_SECRET = ("DATABASE_URL", "BROKER_URL", "UPSTREAM_API_KEY")


def merged_environ(options: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment, overridden by the given options under the names of their settings.

    Foreign variables are in the returned environment, to be warned of, and are taken out of the process's own.
    """
    given = {f"{PREFIX}{name}": value for name, value in options.items() if value is not None}
    # Read only to pass the environment on to children; app.config alone reads settings.
    merged = {**os.environ, **given}
    leave_out_foreign()
    return merged


def has_broker(environ: Mapping[str, str]) -> bool:
    """Return whether the operator named a broker."""
    return bool(environ.get(f"{PREFIX}BROKER_URL"))


def child_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the environment of child processes: derived settings override given variables."""
    worked_out = {
        "DATA": str(settings.data),
        # Empty if no file is used: children start in another folder, and the folder may hold a wylon.toml.
        "CONFIG": str(settings.config or ""),
        "HOST": settings.host,
        "PORT": str(settings.port),
        "BROKER_URL": settings.broker_url,
        "DATABASE_URL": settings.database_url,
        "SECRET_FILE": str(settings.secret_file),
    }
    foreign = set(foreign_variables(environ))
    return {
        **{name: value for name, value in environ.items() if name not in foreign},
        **{f"{PREFIX}{name}": value for name, value in worked_out.items()},
        # Flush log lines at once: operators read the logs while the processes write.
        "PYTHONUNBUFFERED": "1",
    }


def secret_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the given variables that may hold a password or a key, and that other commands need as well."""
    return [name for name in map(f"{PREFIX}{{}}".format, _SECRET) if environ.get(name)]


def shared_settings(settings: Settings) -> dict[str, str]:
    """Return the variables that point other commands to the storage and the model servers, without API keys."""
    storage = {f"{PREFIX}STORAGE_URL": settings.storage_url}
    if settings.config is not None:
        return {**storage, f"{PREFIX}CONFIG": str(settings.config)}
    # Without a config file, the environment describes a single upstream with a single URL.
    (spec,) = settings.upstreams
    url = "?".join(part for part in (*spec.urls, spec.query) if part)
    return {**storage, f"{PREFIX}CONFIG": "", f"{PREFIX}UPSTREAM_URL": url}
