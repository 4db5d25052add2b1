"""`wylon up` and `wylon migrate`: the command line of a deployment."""

from collections.abc import Mapping

import click

from app.cli.up.broker import BrokerMissing
from app.cli.up.deployment import Deployment, StartFailed
from app.cli.up.options import has_broker, merged_environ
from app.cli.up.run_folder import FolderTaken
from app.cli.up.start_faults import told_in_one_line
from app.config import Process, foreign_warnings, load_settings, unknown_variables
from app.domain.errors import SettingInvalid
from app.wiring.logs import set_up_logs
from app.wiring.setup import ensure_key, make_data_folder, prepare
from app.wiring.start import await_database


@click.command(short_help="Run everything on this machine.")
@click.option("--host", metavar="HOST", help="Address to serve at [127.0.0.1].")
@click.option("--port", metavar="PORT", help="Port to serve at; 0 takes a free one [8080].")
@click.option("--data", metavar="DIR", help="Folder for the database, files, logs and process ids [wylon-data].")
@click.option("--upstream", metavar="URL", help="The OpenAI-compatible model server, http://HOST:PORT/v1.")
@click.option(
    "--config", metavar="FILE", help="The file of several upstreams; not used with --upstream [wylon.toml if there]."
)
@click.option("--workers", metavar="N", help="Worker processes; one for each core is the most that helps [1].")
@click.option("--concurrency", metavar="N", help="Lines in flight in each worker [64].")
@click.option("--api-key", metavar="KEY", help="The key that callers send; by default one is made and kept in DIR.")
@click.option("--broker-url", metavar="URL", help="A Redis to use in place of the embedded broker.")
@click.option("--verbose", "--log-to-terminal", "is_verbose", is_flag=True, help="Log here instead of in DIR/log.")
def up(
    host: str | None,
    port: str | None,
    data: str | None,
    upstream: str | None,
    config: str | None,
    workers: str | None,
    concurrency: str | None,
    api_key: str | None,
    broker_url: str | None,
    is_verbose: bool,
) -> None:
    """Run the API, control, files, workers, beat and a broker on this machine, until ctrl-C or SIGTERM.

    Each option is also a variable WYLON_…, as are many more settings: docs/settings.md has the table. Started again on
    the same --data it goes on where it was.
    """
    options = {
        "HOST": host,
        "PORT": port,
        "DATA": data,
        "UPSTREAM_URL": upstream,
        # A server named on the command line overrides the upstreams of a config file.
        "CONFIG": config if upstream is None else "",
        "WORKERS": workers,
        "CONCURRENCY": concurrency,
        "API_KEY": api_key,
        "BROKER_URL": broker_url,
    }
    if upstream is not None and config is not None:
        raise click.UsageError("--upstream is one server and --config a file of several: give one of the two.")
    environ = merged_environ(options)
    _warn_of_unknown(environ)
    try:
        settings = load_settings(environ)
    except SettingInvalid as fault:
        raise click.UsageError(str(fault)) from None
    set_up_logs(settings)
    deployment = Deployment(settings, environ, is_broker_given=has_broker(environ), is_logging_here=is_verbose)
    try:
        with told_in_one_line():
            deployment.run(click.echo)
    except (FolderTaken, BrokerMissing, StartFailed) as fault:
        raise click.ClickException(str(fault)) from None


@click.command(short_help="Prepare the database and folders.")
def migrate() -> None:
    """Bring the database to the newest schema, make the folders, and let WYLON_API_KEY in.

    For a deployment whose processes are started one by one; `wylon up` does the same by itself.
    """
    environ = merged_environ({})
    _warn_of_unknown(environ)
    try:
        settings = load_settings(environ, Process.MIGRATE)
    except SettingInvalid as fault:
        raise click.UsageError(str(fault)) from None
    with told_in_one_line():
        make_data_folder(settings, lambda words: click.echo(words, err=True))
        await_database(settings, lambda words: click.echo(words, err=True))
        prepare(settings, lambda words: click.echo(words, err=True))
        (settings.data / "run").mkdir(exist_ok=True)
        if settings.api_key is not None and not ensure_key(settings, settings.api_key):
            click.echo("Warning: the key of WYLON_API_KEY was revoked: `wylon keys add NAME` makes another.", err=True)


def _warn_of_unknown(environ: Mapping[str, str]) -> None:
    for warning in (*unknown_variables(environ), *foreign_warnings(environ)):
        click.echo(warning, err=True)
