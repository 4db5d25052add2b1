"""Settings for commands that inspect an existing deployment."""

from collections.abc import Mapping
from pathlib import Path

import click

from app.cli.up.broker import known_socket
from app.cli.up.options import has_broker, merged_environ
from app.cli.up.run_folder import read_secret_variables, read_settings
from app.config import PREFIX, Settings, database_path, load_settings
from app.domain.broker_address import BrokerAddress, Kind
from app.domain.errors import SettingInvalid, Unavailable

_DATABASE, _BROKER, _UPSTREAM_KEY = f"{PREFIX}DATABASE_URL", f"{PREFIX}BROKER_URL", f"{PREFIX}UPSTREAM_API_KEY"


def settings_to_look(data: str | None) -> Settings:
    """Return the settings, with the folder's embedded broker if there is a socket; Unavailable without a database."""
    environ = merged_environ({"DATA": data})
    try:
        settings = load_settings(environ)
        environ = read_settings(settings.data / "run") | environ
        settings = load_settings(environ)
        socket = None if has_broker(environ) else known_socket(settings.data / "run")
        if socket is not None:
            settings = load_settings({**environ, "WYLON_BROKER_URL": BrokerAddress(Kind.SOCKET, path=str(socket)).url})
    except SettingInvalid as fault:
        raise click.UsageError(
            f"{fault} This command needs the environment that the processes of wylon have."
        ) from None
    check_same_database(settings, environ)
    if _is_kept_back(settings.data, environ, _BROKER):
        raise Unavailable(_set_too(_BROKER))
    return settings


def check_same_database(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raise Unavailable where the settings lead to another database than that of the folder's `wylon up`, or to none.

    Args:
        settings: the settings of a command.
        environ: the environment behind the settings.
    """
    if _is_kept_back(settings.data, environ, _DATABASE):
        raise Unavailable(_set_too(_DATABASE))
    # Opening a missing SQLite file would create the file.
    path = database_path(settings.database_url)
    if path is not None and not path.exists():
        raise Unavailable(f"There is no database {path}: name the folder of `wylon up` by --data.")


def explain_missing_key(settings: Settings) -> str | None:
    """Return why this command can't check the upstream, if only the folder's `wylon up` has the upstream's key."""
    if settings.config is None and _is_kept_back(settings.data, merged_environ({}), _UPSTREAM_KEY):
        return f"not checked, for want of the key: {_set_too(_UPSTREAM_KEY)}"
    return None


def _is_kept_back(data: Path, environ: Mapping[str, str], variable: str) -> bool:
    """Return whether `wylon up` was given a variable that this command was not given."""
    return not environ.get(variable) and variable in read_secret_variables(data / "run")


def _set_too(variable: str) -> str:
    return f"`wylon up` was started with {variable}, and this command was not: set {variable} to the same value here."
