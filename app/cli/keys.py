"""`wylon keys`: manage the API keys of callers."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Column, Table

from app.cli.looking import check_same_database
from app.cli.up.options import merged_environ
from app.cli.up.start_faults import told_in_one_line
from app.config import Process, load_settings
from app.domain.api_key import ApiKey
from app.domain.errors import SettingInvalid
from app.services.keys import KeyService
from app.wiring.keys import open_keys

_PIPED_WIDTH = 200

_data = click.option("--data", metavar="DIR", help="The folder of `wylon up` [wylon-data].")
_json = click.option("--json", "is_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Add, list and revoke API keys.")
def keys() -> None:
    """Add, list and revoke the keys that callers send. A change holds at once, without a restart."""


@keys.command(short_help="Make a key and print it, once.")
@click.argument("name")
@_data
@_json
def add(name: str, data: str | None, is_json: bool) -> None:
    """Make a key named NAME, such as the program that will send it. The key is shown now and never again."""
    with _opened(data) as service:
        key, value = service.add(name)
    if is_json:
        click.echo(json.dumps(_shown(key) | {"value": value}))
        return
    click.echo(value)
    click.echo(f"Keep it: it is not shown again. Revoke it: wylon keys revoke {key.id}", err=True)


@keys.command("list", short_help="List the keys.")
@_data
@_json
def list_keys(data: str | None, is_json: bool) -> None:
    """List all keys, revoked ones included."""
    with _opened(data) as service:
        found = service.all()
    if is_json:
        click.echo(json.dumps([_shown(key) for key in found]))
        return
    # A pipe has no terminal width; a wide table keeps rich from cutting ids.
    console = Console(width=None if Console().is_terminal else _PIPED_WIDTH, markup=False, highlight=False)
    table = Table(Column("id", no_wrap=True), "name", "key", "made", "last used", "state", box=None)
    for key in found:
        state = "in use" if key.revoked_at is None else f"revoked {_day(key.revoked_at)}"
        used = "never" if key.last_used_at is None else _day(key.last_used_at)
        table.add_row(key.id, key.name, key.redacted_value, _day(key.created_at), used, state)
    console.print(table)


@keys.command(short_help="Let nobody in by a key any more.")
@click.argument("key")
@_data
def revoke(key: str, data: str | None) -> None:
    """Revoke KEY, the id or the name of a key: within a second it lets nobody in. Batches that run go on."""
    with _opened(data) as service:
        revoked = service.revoke(key)
    click.echo(f"{revoked.id} {revoked.name} revoked")


@contextmanager
def _opened(data: str | None) -> Iterator[KeyService]:
    environ = merged_environ({"DATA": data})
    try:
        settings = load_settings(environ, Process.MIGRATE)
    except SettingInvalid as fault:
        raise click.UsageError(str(fault)) from None
    with told_in_one_line():
        check_same_database(settings, environ)
        with open_keys(settings) as service:
            yield service


def _shown(key: ApiKey) -> dict[str, object]:
    return {name: value for name, value in asdict(key).items() if name != "tenant_id"}


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
