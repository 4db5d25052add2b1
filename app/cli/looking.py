"""Settings for commands that inspect an existing deployment."""

import click

from app.cli.up.broker import known_socket
from app.cli.up.options import has_broker, merged_environ
from app.cli.up.run_folder import read_settings
from app.config import Settings, database_path, load_settings
from app.domain.broker_address import BrokerAddress, Kind
from app.domain.errors import SettingInvalid, Unavailable


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
        raise click.UsageError(str(fault)) from None
    # Opening a missing SQLite file would create the file.
    path = database_path(settings.database_url)
    if path is not None and not path.exists():
        raise Unavailable(f"There is no database {path}: name the folder of `wylon up` by --data.")
    return settings
