"""The entry point of `wylon`."""

import importlib
from typing import NamedTuple

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
    "dispatch": _Place("app.cli.dispatch", "dispatch"),
    "upstreams": _Place("app.cli.upstreams", "upstreams"),
    "upstream": _Place("app.cli.upstream.command", "upstream"),
    "migrate": _Place("app.cli.up.command", "migrate"),
}


class _LazyGroup(click.Group):
    """Imports the command that is run alone: all of them together take two seconds."""

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
