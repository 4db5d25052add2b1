"""`wylon list`, `show` and `cancel`."""

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from app.cli.client.api_client import ApiClient
from app.cli.client.follow import follow_to_end
from app.cli.client.options import talks_to_api

_PIPED_WIDTH = 200
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("list", short_help="List batches, the newest first.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100))
@talks_to_api
def list_batches(client: ApiClient, limit: int) -> None:
    """List batches, the newest first."""
    table = Table(Column("batch", no_wrap=True), "status", "endpoint", "done", "failed", "total", "created", box=None)
    for batch in client.batches(limit):
        counts = _counts(batch)
        table.add_row(
            batch["id"],
            batch["status"],
            batch["endpoint"],
            str(counts["completed"]),
            str(counts["failed"]),
            str(counts["total"]),
            _instant(batch["created_at"]),
        )
    _console().print(table)


@click.command(short_help="Show a batch.")
@click.argument("batch_id")
@click.option("--wait", is_flag=True, help="Show progress until it has ended; exit 0 only if a line succeeded.")
@click.option("-o", "--output", type=_FILE, help="Wait, then write the results here.")
@click.option("--errors", type=_FILE, help="Wait, then write the lines that failed here.")
@talks_to_api
def show(client: ApiClient, batch_id: str, wait: bool, output: Path | None, errors: Path | None) -> None:
    """Show all that the API says of a batch."""
    batch = client.batch(batch_id)
    if wait or output or errors:
        follow_to_end(client, batch, Console(stderr=True), output, errors)
        return
    table = Table("", "", box=None, show_header=False)
    for name, value in batch.items():
        if value is None or name == "object":
            continue
        table.add_row(name, _instant(value) if name.endswith("_at") else _plain(value))
    _console().print(table)


@click.command(short_help="Cancel a batch; what is done is kept.")
@click.argument("batch_id")
@talks_to_api
def cancel(client: ApiClient, batch_id: str) -> None:
    """Cancel a batch: nothing more of it is sent, and what is done is kept."""
    batch = client.cancel(batch_id)
    click.echo(f"{batch['id']} {batch['status']}")


def _console() -> Console:
    # A pipe has no terminal width; a wide table keeps rich from cutting ids.
    return Console(width=None if Console().is_terminal else _PIPED_WIDTH, markup=False)


def _counts(batch: dict[str, Any]) -> dict[str, int]:
    return batch.get("request_counts") or {"total": 0, "completed": 0, "failed": 0}


def _instant(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _plain(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    if value.get("object") == "list":
        return "\n".join(f"line {error.get('line')}: {error.get('message')}" for error in value["data"])
    return "  ".join(f"{name} {inner}" for name, inner in value.items() if not isinstance(inner, dict))
