"""`wylon upstreams`: list the configured model servers, and check whether the servers answer."""

import asyncio
import json
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from app.cli.up.options import merged_environ
from app.config import Settings, load_settings
from app.domain.errors import SettingInvalid
from app.domain.upstream import Routes, UpstreamSpec
from app.services.upstream_check import ServerCheck
from app.wiring.catalog import build_upstream_check

_PIPED_WIDTH = 200
_MAX_SHOWN_MODELS = 4
_PATIENCE_S = 15.0

_config = click.option("--config", metavar="FILE", help="The file of the upstreams [wylon.toml, if there].")


@click.group(short_help="Show the model servers, and try them.", invoke_without_command=True)
@_config
@click.pass_context
def upstreams(context: click.Context, config: str | None) -> None:
    """Show the upstreams in the order in which a line's model is looked for; `check` tries each of their servers."""
    context.obj = config
    if context.invoked_subcommand is None:
        print_upstreams(_settings(config))


@upstreams.command(short_help="Try each server with one small call.")
@_config
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1, max=600),
    default=_PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long a server has for its list of models, and again for the call.",
)
@click.option("--json", "is_json", is_flag=True, help="Print what was found as one JSON list.")
@click.pass_context
def check(context: click.Context, config: str | None, timeout_s: float, is_json: bool) -> None:
    """Try each server of each upstream with one small call, all side by side.

    The call asks for one token of a model that the upstream names, else of one that the server lists. Ends with 0
    where all answer, else with 1.
    """
    settings = _settings(config or context.obj)
    checks = asyncio.run(build_upstream_check(settings, timeout_s).check(settings.upstreams))
    if is_json:
        click.echo(json.dumps([found._asdict() for found in checks], indent=2))
    else:
        print_checks(checks, settings.routes)
    if not all(found.is_fine for found in checks):
        context.exit(1)


def print_upstreams(settings: Settings) -> None:
    """Print the settings of the upstreams."""
    console = _console()
    console.print(
        f"from {settings.config or 'the environment'}; a line goes to the first that has its model and endpoint\n"
    )
    table = Table(
        Column("upstream", no_wrap=True), Column("URLs", overflow="fold"), "models", "endpoints", "key", "limits",
        box=None,
    )  # fmt: skip
    for spec in settings.upstreams:
        table.add_row(
            spec.name,
            "\n".join(spec.urls),
            _some(spec.models),
            "all" if spec.endpoints is None else "\n".join(spec.endpoints),
            spec.api_key_variable if spec.api_key and spec.api_key_variable else "none",
            "\n".join(_limits(spec, settings)),
        )
    console.print(table)
    _print_idle(console, settings.routes)


def print_checks(checks: Sequence[ServerCheck], routes: Routes) -> None:
    """Print the results of the checks as a table, and how many servers failed their check."""
    console = _console()
    table = Table(Column("upstream", no_wrap=True), Column("URL", overflow="fold"), "outcome", "models found", box=None)
    for found in checks:
        models = "not listed" if found.models is None else _some(found.models) or "none that match"
        outcome = Text(found.outcome, style="green" if found.is_fine else "red")
        table.add_row(found.upstream, found.url, outcome, models)
    console.print(table)
    _print_idle(console, routes)
    bad = sum(not found.is_fine for found in checks)
    count = f"{len(checks)} server{'s' * (len(checks) != 1)}"
    console.print(f"\n{bad} of {count} {'needs' if bad == 1 else 'need'} a look" if bad else f"\n{count}: all fine")


def _limits(spec: UpstreamSpec, settings: Settings) -> list[str]:
    if spec.max_in_flight is None:
        in_flight = f"{settings.concurrency:,} in flight in each worker"
    else:
        in_flight = f"{spec.max_in_flight:,} in flight"
    limits = [in_flight]
    if spec.is_adaptive:
        target = "" if spec.latency_target_s is None else f" to answers within {spec.latency_target_s:g} s"
        limits[0] += f", adapted{target}"
    if spec.requests_per_minute is not None:
        limits.append(f"{spec.requests_per_minute:,} requests a minute")
    if spec.tokens_per_minute is not None:
        limits.append(f"{spec.tokens_per_minute:,} tokens a minute")
    return limits


def _some(models: Sequence[str]) -> str:
    unsaid = len(models) - _MAX_SHOWN_MODELS
    return ", ".join([*models[:_MAX_SHOWN_MODELS], *([f"{unsaid:,} more"] if unsaid > 0 else [])])


def _print_idle(console: Console, routes: Routes) -> None:
    for name in routes.idle():
        console.print(f"\n{name} gets no lines: those before it have all its models. Move it up in the file.")


def _console() -> Console:
    # A pipe has no terminal width; a wide table keeps rich from cutting URLs.
    return Console(width=None if Console().is_terminal else _PIPED_WIDTH, markup=False, highlight=False)


def _settings(config: str | None) -> Settings:
    try:
        return load_settings(merged_environ({"CONFIG": config}))
    except SettingInvalid as fault:
        raise click.UsageError(str(fault)) from None
