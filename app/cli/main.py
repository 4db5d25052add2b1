"""The entry point of `wylon`."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click


class _Place(NamedTuple):
    module: str
    name: str


# In the order of the help.
_COMMANDS = {
    "up": _Place("app.cli.up.command", "up"),
    "submit": _Place("app.cli.client.submit", "submit"),
    "list": _Place("app.cli.client.batches", "list_batches"),
    "show": _Place("app.cli.client.batches", "show"),
    "cancel": _Place("app.cli.client.batches", "cancel"),
    "status": _Place("app.cli.status", "status"),
    "dispatch": _Place("app.cli.dispatch", "dispatch"),
    "upstreams": _Place("app.cli.upstreams", "upstreams"),
    "upstream": _Place("app.cli.upstream.command", "upstream"),
    "keys": _Place("app.cli.keys", "keys"),
    "migrate": _Place("app.cli.up.command", "migrate"),
}


# Options with secrets, and the variables to use instead: every user of the machine can read a command line.
_SECRET_OPTIONS = {"--api-key": "WYLON_API_KEY", "--broker-url": "WYLON_BROKER_URL"}


def hide_secrets(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments without secret options, and the secrets as environment variables."""
    shown, hidden = list[str](), dict[str, str]()
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--":
            shown += [argument, *rest]
        elif name not in _SECRET_OPTIONS:
            shown.append(argument)
        elif equals:
            hidden[_SECRET_OPTIONS[name]] = value
        elif (following := next(rest, None)) is not None:
            hidden[_SECRET_OPTIONS[name]] = following
        else:
            # The option lacks a value: click reports the error.
            shown.append(argument)
    return shown, hidden


class _LazyGroup(click.Group):
    """Imports only the command to run: importing every command takes two seconds."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the given arguments, or the process's command line; restart if the command line shows a secret."""
        if not args and "args" not in options:
            shown, hidden = hide_secrets(sys.argv[1:])
            if hidden:
                # Replace the command line at once, while little is loaded. `-P` keeps an `app` in the current
                # folder from being imported.
                command = [sys.executable, "-P", "-m", "app.cli.main", *shown]
                os.execve(sys.executable, command, {**os.environ, **hidden})  # noqa: S606 - this very program
        return super().main(*args, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        command: click.Command = getattr(importlib.import_module(place.module), place.name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wylon")
def main() -> None:
    """Wylon: an OpenAI-compatible Batch API in front of the model servers you run yourself."""


if __name__ == "__main__":
    main(prog_name="wylon")
