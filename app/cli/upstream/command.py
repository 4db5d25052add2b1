"""`wylon upstream`: run the stand-in model server."""

import asyncio
import signal
import ssl

import click
import uvloop

from app.cli.upstream.desk import Pace
from app.cli.upstream.door import Door
from app.cli.upstream.faults import KINDS, FaultPlan, parse_share
from app.cli.upstream.server import Connection, Service
from app.cli.upstream.stats import Stats


async def serve(
    host: str, port: int, pace: Pace, faults: FaultPlan, *, is_tracking: bool, tls: ssl.SSLContext | None = None
) -> None:
    """Print `ready` and the address, then serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    service = Service(pace, faults, Stats(is_tracking=is_tracking))
    door = service.door = Door(lambda: Connection(service), host, port, tls)
    await door.open()
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"ready {'https' if tls else 'http'}://{shown}:{door.port}/v1")
    await stopped.wait()
    # Open connections drop with the loop: a hung client must not keep the process alive.
    door.close()


_FILE = click.Path(exists=True, dir_okay=False)
_FAULT_HELP = (
    "Bring a fault on a share of bodies, as in 500:0.1. A status, with -SECONDS, -date or -none for its Retry-After, "
    "or one of " + "; ".join(f"{kind} ({meaning})" for kind, meaning in KINDS.items())
)


@click.command("upstream", short_help="Run a stand-in model server.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option("--latency-ms", default=0.0, show_default=True, type=click.FloatRange(min=0), help="Time to an answer.")
@click.option("--jitter-ms", default=0.0, type=click.FloatRange(min=0), help="Up to so much more, at random.")
@click.option("--capacity", type=click.IntRange(min=1), help="Requests served at once; by default any number.")
@click.option(
    "--overload",
    type=click.Choice(["queue", "refuse"]),
    default="queue",
    show_default=True,
    help="What becomes of requests over the capacity: they wait their turn, or get 429 and Retry-After.",
)
@click.option("--fail", "fails", multiple=True, metavar="FAULT[:SHARE]", help=_FAULT_HELP + ". May be repeated.")
@click.option("--certificate", type=_FILE, help="Speak TLS, with this certificate in PEM; needs --key.")
@click.option("--key", type=_FILE, help="The certificate's private key, in PEM.")
@click.option("--track", is_flag=True, help="Count bodies that come more than once, as `repeats` in /stats.")
def upstream(
    host: str,
    port: int,
    latency_ms: float,
    jitter_ms: float,
    capacity: int | None,
    overload: str,
    fails: tuple[str, ...],
    certificate: str | None,
    key: str | None,
    track: bool,
) -> None:
    """Run a stand-in for an OpenAI-compatible model server that echoes what it is asked.

    For demos, tests and trying a deployment out. A message that contains [[fail:500]], [[fail:500x2]] (twice, then
    it works), [[fail:429-30]] (Retry-After: 30), [[fail:hang]] or any other fault of --fail, or [[sleep:2000]]
    (milliseconds), brings that on itself. GET /stats says what was done.
    """
    try:
        faults = FaultPlan([parse_share(text) for text in fails])
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--fail") from None
    tls = _tls_of(certificate, key)
    pace = Pace(latency_ms / 1000, jitter_ms / 1000, capacity, overload == "queue")
    try:
        uvloop.run(serve(host, port, pace, faults, is_tracking=track, tls=tls))
    except OSError as fault:
        raise click.ClickException(f"Can't listen on {host}:{port}: {fault.strerror or fault}.") from None


def _tls_of(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise click.UsageError("--certificate and --key go together.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as fault:
        raise click.ClickException(f"Can't use {certificate} with {key}: {fault}.") from None
    return context
