"""`wylon dispatch explain`: show which batches send lines next, and why."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from app.cli.looking import settings_to_look
from app.cli.up.start_faults import told_in_one_line
from app.domain.fairness import Why, is_due
from app.domain.standings import BatchStanding
from app.domain.stranded import Stranded
from app.services.sharing import MOST_BATCHES, LaneLook, Look, window_reason
from app.wiring.sharing import open_sharing

_PIPED_WIDTH = 200
# Order the batches still waiting after 50,000 tasks by level: even at one line a task, no window is close to 50,000.
_MOST_TURNS = 50_000
# The most batches to name for a missing upstream; the JSON names every batch.
_MOST_NAMED = 20
# The limits on calls in flight, in words.
_BOUNDS = {
    "ceiling": "as many as the settings allow",
    "starting": "rising to what the settings allow",
    "latency": "more would only wait longer at the model server",
    "refused": "the model server refused more",
    "target": "more would make answers later than latency_target_s",
    "rate": "the requests or tokens a minute",
    "others": "a part of what another worker found",
    "probing": "trying whether more are served",
}


@dataclass(frozen=True)
class TenantRow:
    """A tenant's share of the window, in lines; `actual` and `deserved` are fractions of the outstanding lines."""

    tenant: str
    weight: float
    running_batches: int
    lines_waiting: int
    lines_outstanding: int
    share_lines: float
    deserved: float
    actual: float


@dataclass(frozen=True)
class BatchRow:
    """A batch with waiting lines, in the order of the next tasks; `urgency` is the batch's weight in its tenant."""

    batch: str
    tenant: str
    time_left_s: float
    urgency: float
    lines_waiting: int
    lines_outstanding: int
    share_lines: float
    lines_per_task: int
    tasks_now: int
    why: str


@click.group(short_help="Look at how lines are handed out.")
def dispatch() -> None:
    """Look at how lines are handed out to workers."""


@dispatch.command(short_help="Show whose lines go next, and why.")
@click.option("--data", metavar="DIR", help="The folder of `wylon up` [wylon-data].")
@click.option("--json", "is_json", is_flag=True, help="Print everything as one JSON object.")
def explain(data: str | None, is_json: bool) -> None:
    """Show whose lines go next, and why; nothing is changed.

    Reads the database and the broker by the settings, which have to be those of the control process: the weights are
    among them. The embedded broker of `wylon up` is found by --data.
    """
    with told_in_one_line(), open_sharing(settings_to_look(data)) as sharing:
        explained = explain_look(sharing.look(), sharing.weights.deadline, sharing.stranded())
    if is_json:
        click.echo(json.dumps(explained, indent=2))
    else:
        print_explained(explained)


def explain_look(look: Look, deadline_weight: float, stranded: Iterable[Stranded] = ()) -> dict[str, Any]:
    """Return windows, tenants and batches, ready for JSON; dispatch would send `tasks_now` tasks now."""
    return {
        "deadline_weight": deadline_weight,
        "upstreams": [_explain_lane(lane, look.at) for lane in look.lanes],
        "missing_upstreams": [each._asdict() for each in stranded],
    }


def _explain_lane(lane: LaneLook, at: float) -> dict[str, Any]:
    sharing, window = lane.sharing, lane.sharing.window
    outstanding, shares = max(sharing.outstanding, 1), max(sum(tenant.share for tenant in sharing.tenants), 1.0)
    tenants = [
        TenantRow(
            tenant.id,
            tenant.weight,
            len(tenant.batches) + tenant.others.batches,
            tenant.waiting,
            tenant.outstanding,
            round(tenant.share, 1),
            round(tenant.share / shares, 4),
            round(tenant.outstanding / outstanding, 4),
        )
        for tenant in sharing.tenants
    ]
    return {
        "upstream": lane.upstream,
        "window": {
            "lines": window.lines,
            "lines_outstanding": sharing.outstanding,
            "lines_paused": window.lines_paused,
            "is_refill_due": is_due(sharing.outstanding, window.lines),
            "workers": len(lane.lanes),
            "slots": sum(each.slots for each in lane.lanes),
            "in_flight": sum(each.in_flight for each in lane.lanes),
            "bound_by": sorted({each.bound_by for each in lane.lanes}),
            "lines_per_s": round(sum(each.lines_per_s for each in lane.lanes), 1),
            "reason": window_reason(lane),
            "away": sorted({each.away for each in lane.lanes if each.away}),
        },
        "tenants": [asdict(row) for row in tenants],
        "batches": [asdict(row) for row in _batch_rows(lane, at)],
    }


def _batch_rows(lane: LaneLook, at: float) -> list[BatchRow]:
    sharing = lane.sharing
    standings = {each.batch.id: each for tenant in sharing.tenants for each in tenant.batches}
    now, whys = Counter[str](), dict[str, str]()
    for turn in sharing.turns():
        now[turn.batch_id] += turn.tasks
        whys.setdefault(turn.batch_id, f"now: {turn.why}")
    still_waiting = {each.batch.id for each in standings.values() if each.waiting}
    # Take the reasons here, after the tasks of now: the later turns change the standings further.
    reasons = {batch_id: _waiting_reason(lane) for batch_id in still_waiting - whys.keys()}
    for count, turn in enumerate(sharing.turns_later()):
        if not still_waiting or count >= _MOST_TURNS:
            break
        still_waiting.discard(turn.batch_id)
        whys.setdefault(turn.batch_id, reasons.get(turn.batch_id, ""))
    for each in sorted((standings[batch_id] for batch_id in still_waiting), key=lambda each: each.level):
        whys.setdefault(each.batch.id, reasons[each.batch.id])
    return [_batch_row(standings[batch_id], now[batch_id], why, at) for batch_id, why in whys.items()]


def _waiting_reason(lane: LaneLook) -> str:
    window, outstanding = lane.sharing.window, lane.sharing.outstanding
    if is_due(outstanding, window.lines):
        return f"{Why.WAITS}: others have less for their weight or a nearer deadline"
    return f"{Why.WAITS}: {outstanding:,} of {window.lines:,} lines are outstanding"


def _batch_row(standing: BatchStanding, tasks_now: int, why: str, at: float) -> BatchRow:
    batch = standing.batch
    return BatchRow(
        batch.id,
        batch.tenant_id,
        round(batch.expires_at - at, 1),
        round(standing.weight, 3),
        batch.lines_waiting,
        batch.lines_outstanding,
        round(standing.share, 1),
        batch.lines_per_task,
        tasks_now,
        why,
    )


def print_explained(explained: dict[str, Any]) -> None:
    """Print the result of `explain_look` as tables."""
    # A pipe has no terminal width; a wide table keeps rich from cutting ids.
    console = Console(width=None if Console().is_terminal else _PIPED_WIDTH, markup=False, highlight=False)
    for number, lane in enumerate(explained["upstreams"]):
        if number:
            console.rule()
        _print_lane(console, lane)
    for missing in explained["missing_upstreams"]:
        ids = missing["batch_ids"]
        more = f" and {len(ids) - _MOST_NAMED:,} more" if len(ids) > _MOST_NAMED else ""
        console.rule()
        console.print(
            f"upstream {missing['upstream']} is not configured\n"
            f"{missing['lines']:,} lines wait until it is, or until their batches are cancelled or expire: "
            f"{', '.join(ids[:_MOST_NAMED])}{more}"
        )


def _print_lane(console: Console, explained: dict[str, Any]) -> None:
    window = explained["window"]
    state = "filled again now" if window["is_refill_due"] else "full enough for now"
    console.print(
        f"upstream {explained['upstream']}\n"
        f"window {window['lines']:,} lines: {window['reason']}\n"
        f"{window['in_flight']:,} of {window['slots']:,} calls in flight; {_bounds(window['bound_by'])}\n"
        f"{window['lines_outstanding']:,} outstanding with {window['workers']} workers at "
        f"{window['lines_per_s']:,} lines/s; {state}\n"
    )
    for each in window["away"]:
        console.print(f"away: {each}; its lines wait and use no try\n", markup=False)
    table = Table("tenant", "weight", "batches", "waiting", "outstanding", "deserves", "has", box=None)
    for row in explained["tenants"]:
        table.add_row(
            row["tenant"],
            f"{row['weight']:g}",
            str(row["running_batches"]),
            f"{row['lines_waiting']:,}",
            f"{row['lines_outstanding']:,}",
            f"{row['deserved']:.1%}",
            f"{row['actual']:.1%}",
        )
    console.print(table)
    console.print()
    table = Table(
        "", Column("batch", no_wrap=True), "tenant", "time left", "urgency", "waiting", "outstanding", "share", "why",
        box=None,
    )  # fmt: skip
    for number, row in enumerate(explained["batches"], 1):
        tasks = f"{row['tasks_now']} tasks of {row['lines_per_task']} " if row["tasks_now"] else ""
        table.add_row(
            str(number),
            row["batch"],
            row["tenant"],
            _duration(row["time_left_s"]),
            f"×{row['urgency']:.2f}",
            f"{row['lines_waiting']:,}",
            f"{row['lines_outstanding']:,}",
            f"{row['share_lines']:g}",
            f"{tasks}{row['why']}",
        )
    console.print(table)
    listed = len(explained["batches"])
    others = sum(row["running_batches"] for row in explained["tenants"]) - listed
    if others:
        console.print(f"\n{others:,} more that have lines outstanding")
    if listed >= MOST_BATCHES:
        console.print(f"\nMore than {MOST_BATCHES} batches have lines to hand out: these are looked at now")


def _bounds(bound_by: list[str]) -> str:
    return "; ".join(_BOUNDS.get(each, each) for each in bound_by) or "no worker has said what bounds them"


def _duration(seconds: float) -> str:
    if seconds <= 0:
        return "over"
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02}m" if minutes >= 60 else f"{minutes}m{seconds:02}s"
