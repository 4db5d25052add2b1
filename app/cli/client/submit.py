"""`wylon submit`: a file in, a batch out."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from app.cli.client.api_client import ApiClient
from app.cli.client.follow import follow_to_end
from app.cli.client.options import talks_to_api

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Submit a file of requests as a batch.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True))
@click.option("--endpoint", default="/v1/chat/completions", show_default=True, help="What the lines ask.")
@click.option("--window", default="24h", show_default=True, help="How long the batch may take.")
@click.option("--wait", is_flag=True, help="Show progress until it has ended; exit 0 only if a line succeeded.")
@click.option("-o", "--output", type=_FILE, help="Wait, then write the results here.")
@click.option("--errors", type=_FILE, help="Wait, then write the lines that failed here.")
@talks_to_api
def submit(
    client: ApiClient, file: Path, endpoint: str, window: str, wait: bool, output: Path | None, errors: Path | None
) -> None:
    """Upload FILE, one JSON request a line, and create a batch of it; prints the batch's id."""
    console = Console(stderr=True)
    uploaded = _upload(client, file, console)
    batch = client.create_batch(uploaded["id"], endpoint, window)
    click.echo(batch["id"])
    if wait or output or errors:
        follow_to_end(client, batch, console, output, errors)


def _upload(client: ApiClient, file: Path, console: Console) -> dict[str, str]:
    columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=file.stat().st_size)
        return client.upload(file, lambda sent: progress.update(bar, completed=sent))
