"""`python -m bench.scaling`: measure unit costs here; find the limits of many workers by arithmetic and simulation."""

import argparse
import json
import logging
import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table

from bench.scaling_costs import Measured, measure_costs
from bench.scaling_fleet import Fleet, Outcome
from bench.scaling_model import DAY_S, LINES_PER_DAY, Costs, Load, RosterCost, most_lines_per_s, most_workers, used
from bench.scaling_simulation import Simulation

# Every fleet but the last could do 10^8 lines a day if only calls took time: from few fast calls to many slow calls.
_DAY_RATE = LINES_PER_DAY / DAY_S
FLEETS = [
    Fleet(2, 64, 0.1),
    Fleet(10, 64, 0.5),
    Fleet(100, 64, 5.0),
    Fleet(1_000, 12, 10.0),
    Fleet(1_000, 64, 55.0),
    Fleet(1_000, 12, 10.0, lines_per_task=1),
    Fleet(200, 64, 10.0),
    Fleet(25, 512, 10.0),
    Fleet(100, 64, 5.0, batches=200),
    Fleet(1_000, 64, 10.0, lines_per_task=1),
]
# Some fleets with a different limit on dispatch's window, or with workers that take tasks until their room is full.
OTHERWISE = [
    Fleet(1_000, 64, 55.0, takes_all=True),
    Fleet(1_000, 12, 10.0, max_window=48_000),
    Fleet(1_000, 64, 55.0, max_window=256_000),
    Fleet(1_000, 64, 10.0, max_window=256_000),
]
_SIZES = (2, 10, 100, 1_000)


def main() -> int:
    """Measure or read the costs, print the tables; return 0 if the simulation found no fault."""
    given = _arguments()
    # Upkeep warns of tasks sent again, and the simulated deaths cause tasks to be sent again.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(width=None if Console().is_terminal else 200)
    costs, measured = _costs(given, console)
    console.print(_resources(costs, lines_per_task=50), _resources(costs, lines_per_task=1))
    outcomes = []
    for fleet in FLEETS + OTHERWISE:
        with console.status(f"simulating {fleet}"):
            outcomes.append((fleet, simulate(fleet, costs)))
    console.print(_simulated(outcomes, costs))
    with console.status("simulating deaths"):
        survived = simulate_deaths(costs)
    console.print(f"100 of 1,000 workers vanish: {survived}", highlight=False, markup=False, soft_wrap=True)
    if given.json is not None:
        found = {"simulated": [{"fleet": asdict(fleet), "outcome": asdict(out)} for fleet, out in outcomes]}
        given.json.write_text(json.dumps({"costs": asdict(costs), "measured": measured, **found}, indent=2) + "\n")
    faults = [fault for _, out in outcomes for fault in out.faults] + survived.faults
    for fault in faults:
        console.print(f"FAULT: {fault}")
    return 1 if faults or any(out.lines_run_twice for _, out in outcomes) else 0


def simulate(fleet: Fleet, costs: Costs) -> Outcome:
    """Run a fleet with the costs for three calls' time, then measure for three calls' time more."""
    span_s = max(20.0, 3 * fleet.call_s)
    return Simulation(with_costs(fleet, costs)).run(span_s, span_s)


def simulate_deaths(costs: Costs) -> Outcome:
    """Let a tenth of 1,000 workers vanish, and run on until the tasks of the vanished workers have run again."""
    fleet = with_costs(Fleet(1_000, 12, 10.0, lines_per_batch=10_000), costs)
    simulation = Simulation(fleet)
    simulation.kill(0.1, 30.0)
    return simulation.run(30.0, 120.0)


def with_costs(fleet: Fleet, costs: Costs) -> Fleet:
    """Return the fleet with the durations of its steps."""
    load = _load(fleet, 0.0)
    refill_s = fleet.batches * costs.refill_s_per_batch + costs.roster_reader_s.of(load.workers, load.tasks_held)
    return replace(
        fleet,
        # A commit alone on its row: the time of the row lock, the disk included.
        commit_s=1 / costs.commits_per_s_of_a_batch,
        row_s=costs.postgres_s_per_line,
        refill_s=refill_s,
        publish_s=costs.control_s_per_task,
        bits_s=costs.bits_s,
    )


def first_bottleneck(load: Load, costs: Costs) -> tuple[str, float]:
    """Return the resource with the largest used share, and the share."""
    shares = used(load, costs)
    name = max(shares, key=lambda key: shares[key])
    return name, shares[name]


def _load(fleet: Fleet, lines_per_s: float) -> Load:
    return Load(
        fleet.workers, fleet.concurrency, fleet.call_s, lines_per_s, fleet.lines_per_task, min(fleet.batches, 200)
    )


def _resources(costs: Costs, *, lines_per_task: int) -> Table:
    """Return, by resource, the share used at 10^8 lines a day by fleet size, and the resource's limits."""
    loads = [Load(size, 64, size * 64 / _DAY_RATE, _DAY_RATE, lines_per_task) for size in _SIZES]
    title = f"share used at 10^8 lines a day, {lines_per_task} lines a task, 4 batches, 64 calls a worker"
    table = Table("resource", *(f"{size:,} workers" for size in _SIZES), "ends at", "lines/s", title=title)
    for name in used(loads[0], costs):
        shares = [f"{used(load, costs)[name]:.2g}" for load in loads]
        ends = most_workers(replace(loads[-1], call_s=10.0), costs, name)
        rate = most_lines_per_s(replace(loads[2], call_s=1.0, concurrency=10_000), costs, name)
        table.add_row(name, *shares, _count(ends, "workers"), _count(rate, "with 100"))
    return table


def _simulated(outcomes: list[tuple[Fleet, Outcome]], costs: Costs) -> Table:
    rows = [_described(fleet, out, costs) for fleet, out in outcomes]
    table = Table(*rows[0], title="simulated")
    for row in rows:
        table.add_row(*row.values())
    return table


def _described(fleet: Fleet, out: Outcome, costs: Costs) -> dict[str, str]:
    name, share = first_bottleneck(_load(fleet, out.lines_per_s), costs)
    return {
        "workers": f"{fleet.workers:,}",
        "calls each": f"{fleet.concurrency}",
        "call s": f"{fleet.call_s:g}",
        "lines/task": f"{fleet.lines_per_task}",
        "batches": f"{fleet.batches}",
        "window ≤": f"{fleet.max_window:,}",
        "takes": "all" if fleet.takes_all else "one",
        "asked/s": f"{fleet.workers * fleet.concurrency / fleet.call_s:,.0f}",
        "got/s": f"{out.lines_per_s:,.0f}",
        "10^8/day": f"{out.lines_per_s / _DAY_RATE:.2f}",
        "slots": f"{out.slots_used:.2f}",
        "idle": f"{out.workers_idle:.2f}",
        "commits/s": f"{out.commits_per_s:,.0f}",
        "wait ms": f"{out.mean_commit_wait_s * 1_000:.0f}",
        "refills/s": f"{out.refills_per_s:.0f}",
        "control": f"{out.control_used:.2f}",
        "gap s": f"{out.longest_wait_of_a_batch_s:.1f}",
        "most used by arithmetic": f"{name} {share:.2f}",
    }


def _count(number: float, unit: str) -> str:
    # The resource has no limit, or is over the limit at any number.
    if math.isinf(number) or number < 1:
        return "-"
    return f"{number:,.0f} {unit}"


def _costs(given: argparse.Namespace, console: Console) -> tuple[Costs, Any]:
    if given.costs is not None:
        kept = json.loads(given.costs.read_text())
        rosters = {name: RosterCost(**value) for name, value in kept["costs"].items() if isinstance(value, dict)}
        return Costs(**(kept["costs"] | rosters)), kept["measured"]
    with tempfile.TemporaryDirectory(prefix="wylon-scaling-") as folder, console.status("measuring") as status:
        measured = measure_costs(Path(folder), lines=given.lines, tell=lambda what: status.update(f"measuring: {what}"))
    _print_measured(measured, console)
    return measured.costs, asdict(measured)


def _print_measured(measured: Measured, console: Console) -> None:
    table = Table("1,000 lines", "lines/s", "CPU s", "Redis", "database", "blobs kB", title="real runs")
    for name, spent in measured.runs.items():
        per = 1_000 / spent.lines
        cpu = ", ".join(f"{kind} {seconds * per:.3f}" for kind, seconds in sorted(spent.cpu_s.items()))
        broker = (
            f"{spent.redis_total * per:,.0f} commands, {spent.redis_bytes_in * per / 1e3:,.0f} kB in, "
            f"{spent.redis_bytes_out * per / 1e3:,.0f} kB out, {spent.redis_clients} clients"
        )
        database = f"{spent.commits * per:.0f} commits, {spent.wal_bytes * per / 1e3:,.0f} kB WAL"
        rate = f"{spent.lines / spent.seconds:,.0f}"
        table.add_row(name, rate, cpu, broker, f"{database}, {spent.postgres_connections} open", _kb(spent, per))
    console.print(table)
    for workers, idle in zip((2, 6), measured.idle, strict=True):
        commands, cpu_s = idle.redis_total / idle.seconds, sum(idle.cpu_s.values()) / idle.seconds
        console.print(
            f"idle, {workers} workers, a second: {commands:.1f} commands of Redis, {cpu_s:.3f} s of CPU in all"
        )
    for each in (*measured.roster, *measured.stores.items(), *measured.commits_per_s.items(), measured.costs):
        console.print(str(each), highlight=False, markup=False, soft_wrap=True)


def _kb(spent: Any, per: float) -> str:
    return f"{spent.blob_bytes * per / 1e3:,.0f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000, help="lines of the largest real run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    parser.add_argument("--costs", type=Path, metavar="FILE", help="take the costs from such a file, measure nothing")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
