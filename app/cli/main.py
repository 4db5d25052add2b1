"""The entry point of `wylon`."""

import click

from app.cli.up.command import migrate, up
from app.cli.upstream.command import upstream


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wylon")
def main() -> None:
    """Wylon: an OpenAI-compatible Batch API in front of the model servers you run yourself."""


for command in (up, upstream, migrate):
    main.add_command(command)
