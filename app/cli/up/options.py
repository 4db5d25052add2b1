"""The options of a command and the environment, made into settings and into what children are given."""

import os
from collections.abc import Mapping

from app.config import PREFIX, Settings, foreign_variables


def merged_environ(options: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment with the options that were given on top, by the names of their settings."""
    given = {f"{PREFIX}{name}": value for name, value in options.items() if value is not None}
    # Not read for settings, which only app.config does: children inherit it.
    return {**os.environ, **given}


def has_broker(environ: Mapping[str, str]) -> bool:
    """Return whether the operator named a broker."""
    return bool(environ.get(f"{PREFIX}BROKER_URL"))


def child_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return what children are started with: settings that were worked out override what was given."""
    worked_out = {
        "DATA": str(settings.data),
        # Empty where no file is used: children start in another folder, which may have one.
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
        # A log is read while it is written.
        "PYTHONUNBUFFERED": "1",
    }


def shared_settings(settings: Settings) -> dict[str, str]:
    """Return variables by which another command on this machine looks at the same model servers, without their keys."""
    if settings.config is not None:
        return {f"{PREFIX}CONFIG": str(settings.config)}
    # The environment describes one upstream with one URL.
    (spec,) = settings.upstreams
    return {f"{PREFIX}CONFIG": "", f"{PREFIX}UPSTREAM_URL": "?".join(part for part in (*spec.urls, spec.query) if part)}
