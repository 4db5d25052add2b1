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


# Options that hold secrets, and their variables: every user of the machine can read a process's command line.
_SECRET_OPTIONS = {"--api-key": "WYLON_API_KEY", "--broker-url": "WYLON_BROKER_URL"}


def hide_secrets(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments without the options that hold secrets, and these as variables of the environment."""
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
            # It lacks its value: click says so.
            shown.append(argument)
    return shown, hidden


class _LazyGroup(click.Group):
    """Imports the command that is run alone: all of them together take two seconds."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line, of this process where none is given; one that shows a secret is started anew."""
        if not args and "args" not in options:
            shown, hidden = hide_secrets(sys.argv[1:])
            if hidden:
                # The same process with another command line, at once: little has been loaded yet. `-P`, since the
                # current folder may have an `app` of its own.
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
