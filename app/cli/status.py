"""`wylon status`: show running processes, waiting lines and faults."""

import json
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from app.cli.looking import explain_missing_key, settings_to_look
from app.cli.up.start_faults import told_in_one_line
from app.domain.lifecycle import Status as BatchStatus
from app.domain.lifecycle import shown
from app.services.sharing import LaneLook
from app.wiring.status import Status, look_at

_PIPED_WIDTH = 200


@click.command(short_help="Show what runs, what waits, and what is wrong.")
@click.option("--data", metavar="DIR", help="The folder of `wylon up` [wylon-data].")
@click.option("--json", "is_json", is_flag=True, help="Print everything as one JSON object.")
@click.pass_context
def status(context: click.Context, data: str | None, is_json: bool) -> None:
    """Show processes, batches, upstreams and faults, by the settings of this deployment; nothing is changed.

    Ends with 0 where nothing is wrong, else with 1.
    """
    with told_in_one_line():
        settings = settings_to_look(data)
        not_checked = explain_missing_key(settings)
        found = explain_status(look_at(settings, asks_upstreams=not_checked is None), not_checked)
    if is_json:
        click.echo(json.dumps(found, indent=2))
    else:
        print_status(found)
    if found["faults"]:
        context.exit(1)


def explain_status(status: Status, not_checked: str | None = None) -> dict[str, Any]:
    """Return a status as a JSON object: faults, notes, parts, workers, batches and upstreams.

    Args:
        status: the look at the deployment.
        not_checked: why the upstreams were not asked.
    """
    return {
        "faults": list(_faults(status)),
        "notes": [] if not_checked is None else [f"upstream: {not_checked}"],
        "parts": {name: "ok" if fault is None else fault for name, fault in status.parts.items()},
        "workers": None
        if status.workers is None
        else [
            {
                "name": worker.name,
                "tasks_held": len(worker.held_tasks),
                "calls_in_flight": sum(lane.in_flight for lane in worker.lanes.values()),
                "lines_waiting_for_retry": sum(lane.lines_paused for lane in worker.lanes.values()),
            }
            for worker in sorted(status.workers, key=lambda worker: worker.name)
        ],
        "batches": status.batches,
        "upstreams": None if status.look is None else [_explain_upstream(lane, status) for lane in status.look.lanes],
    }


def _explain_upstream(lane: LaneLook, status: Status) -> dict[str, Any]:
    sharing = lane.sharing
    return {
        "upstream": lane.upstream,
        "servers": {found.url: found.outcome for found in status.upstreams or () if found.upstream == lane.upstream},
        "calls_allowed": sum(each.slots for each in lane.lanes),
        "calls_in_flight": sum(each.in_flight for each in lane.lanes),
        "lines_per_s": round(sum(each.lines_per_s for each in lane.lanes), 1),
        "lines_outstanding": sharing.outstanding,
        "lines_waiting": sum(tenant.waiting for tenant in sharing.tenants),
    }


def _faults(status: Status) -> Iterator[str]:
    for name, fault in status.parts.items():
        if fault is not None:
            yield f"{name}: {fault}"
    if status.workers == []:
        yield "workers: none has reported in the last seconds; batches wait for one"
    for found in status.upstreams or ():
        if not found.is_fine:
            yield f"upstream {found.upstream} {found.url}: {found.outcome}"
    # The list of models may be fine while every call fails.
    lanes = [lane for worker in status.workers or () for lane in worker.lanes.items()]
    for upstream, away in {name: lane.away for name, lane in lanes if lane.away}.items():
        yield f"upstream {upstream}: the last calls failed, and lines wait: {away}"


def print_status(found: dict[str, Any]) -> None:
    """Print the result of `explain_status`."""
    # A pipe has no terminal width; a wide table keeps rich from cutting names.
    console = Console(width=None if Console().is_terminal else _PIPED_WIDTH, markup=False, highlight=False)
    if found["faults"]:
        for fault in found["faults"]:
            console.print(Text.assemble(("wrong  ", "red"), fault))
    else:
        console.print("nothing is wrong")
    for note in found["notes"]:
        console.print(Text.assemble(("note   ", "yellow"), note))
    console.print()
    parts = ", ".join(f"{name} {'ok' if state == 'ok' else 'FAILS'}" for name, state in found["parts"].items())
    console.print(f"parts    {parts}")
    console.print(f"batches  {_batches(found['batches'])}")
    console.print()
    if found["workers"]:
        table = Table(Column("worker", no_wrap=True), "tasks held", "in flight", "wait for retry", box=None)
        for row in found["workers"]:
            table.add_row(
                row["name"],
                f"{row['tasks_held']:,}",
                f"{row['calls_in_flight']:,}",
                f"{row['lines_waiting_for_retry']:,}",
            )
        console.print(table)
        console.print()
    if found["upstreams"]:
        table = Table(
            Column("upstream", no_wrap=True), "in flight", "allowed", "lines/s", "outstanding", "waiting", box=None
        )
        for row in found["upstreams"]:
            table.add_row(
                row["upstream"],
                f"{row['calls_in_flight']:,}",
                f"{row['calls_allowed']:,}",
                f"{row['lines_per_s']:,}",
                f"{row['lines_outstanding']:,}",
                f"{row['lines_waiting']:,}",
            )
        console.print(table)


def _batches(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "can't be read"
    together: dict[str, int] = {}
    for name, count in counts.items():
        known = shown(BatchStatus(name)).value
        together[known] = together.get(known, 0) + count
    return ", ".join(f"{count:,} {name}" for name, count in together.items()) or "none that has not ended"
