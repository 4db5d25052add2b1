"""`make bench`: measure wylon on this machine against its bars and print the table."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench import (
    adaptive,
    api_latency,
    backlog,
    capacity,
    fairness,
    first_call,
    kills,
    memory,
    others,
    prefix,
    small_batches,
    throughput,
    variants,
)
from bench.processes import exit_on_sigterm
from bench.report import Row, failed_row, print_rows, write_json

MIN_RATIO = 0.9
MIN_RATIO_ONE_LINE = 0.12


def main() -> int:
    """Run the chosen rows; return 0 if every bar was met."""
    given = _arguments()
    exit_on_sigterm()
    console = Console(width=None if Console().is_terminal else 160)
    rows = []
    for key in given.only:
        with console.status(f"measuring {key}"), tempfile.TemporaryDirectory(prefix="wylon-bench-") as folder:
            rows.append(_measured(key, ROWS[key], Path(folder), given))
    print_rows(rows, console)
    if given.json is not None:
        write_json(rows, given.json)
    if given.charts is not None:
        # Only the charts need matplotlib, which `make setup` leaves out.
        from bench.charts import draw  # noqa: PLC0415

        draw(rows, given.charts)
    return 0 if all(row.is_met for row in rows) else 1


def _measured(key: str, measure: "Measure", folder: Path, given: argparse.Namespace) -> Row:
    try:
        return measure(folder, given)
    # A failed row must not cost the rest of the table.
    except Exception as fault:
        return failed_row(key, fault)


def _many_lines_a_task(folder: Path, given: argparse.Namespace) -> Row:
    lines, rounds = (5_000, 1) if given.quick else (given.lines, 2)
    return throughput.measure("a", "create → completed", MIN_RATIO, folder, lines=lines, rounds=rounds, settings={})


def _one_line_a_task(folder: Path, given: argparse.Namespace) -> Row:
    return throughput.measure(
        "b",
        "one line a task",
        MIN_RATIO_ONE_LINE,
        folder,
        lines=2_000 if given.quick else given.lines,
        rounds=1,
        settings={"WYLON_LINES_PER_TASK": "1"},
    )


def _memory(folder: Path, given: argparse.Namespace) -> Row:
    return memory.measure("c", folder, lines=5_000 if given.quick else 50_000)


def _capacity(folder: Path, given: argparse.Namespace) -> Row:
    lines = 4_000 if given.quick else 12_000
    return capacity.measure("d", folder, capacity=96, latency_ms=250, concurrency=64, lines=lines)


def _wide_capacity(folder: Path, given: argparse.Namespace) -> Row:
    lines = 2_560 if given.quick else 15_360
    return capacity.measure("e", folder, capacity=512, latency_ms=2_000, concurrency=288, lines=lines)


def _kills(folder: Path, given: argparse.Namespace) -> Row:
    return kills.measure("f", folder, lines=2_000 if given.quick else 6_000)


def _others(folder: Path, given: argparse.Namespace) -> Row:
    return others.measure("g", folder, lines=5_000 if given.quick else given.lines)


def _api_latency(folder: Path, given: argparse.Namespace) -> Row:
    return api_latency.measure("h", folder, lines=5_000 if given.quick else given.lines)


def _first_call(folder: Path, given: argparse.Namespace) -> Row:
    return first_call.measure("i", folder, lines=5_000 if given.quick else given.lines)


def _backlog(folder: Path, given: argparse.Namespace) -> Row:
    return backlog.measure("j", folder, lines=100_000 if given.quick else 1_000_000)


def _small_behind_large(folder: Path, _: argparse.Namespace) -> Row:
    return fairness.measure_small("k", folder)


def _two_tenants(folder: Path, _: argparse.Namespace) -> Row:
    return fairness.measure_tenants("l", folder)


def _prefix(folder: Path, given: argparse.Namespace) -> Row:
    return prefix.measure("m", folder, lines=32 if given.quick else 96)


def _queueing(key: str, workers: int) -> "Measure":
    def measure(folder: Path, given: argparse.Namespace) -> Row:
        lines = 6_000 if given.quick else 15_000
        return adaptive.measure_queueing(key, folder, workers=workers, capacity=96, lines=lines)

    return measure


def _refusing(key: str, workers: int) -> "Measure":
    def measure(folder: Path, given: argparse.Namespace) -> Row:
        lines = 4_000 if given.quick else 10_000
        return adaptive.measure_refusing(key, folder, workers=workers, capacity=64, lines=lines)

    return measure


def _small_batches(folder: Path, given: argparse.Namespace) -> Row:
    return small_batches.measure_batches("r", folder, batches=80 if given.quick else 1_000)


def _small_calls(folder: Path, given: argparse.Namespace) -> Row:
    return small_batches.measure_calls("s", folder, creates=50 if given.quick else 200)


def _variants(folder: Path, given: argparse.Namespace) -> Row:
    return variants.measure("z", folder, lines=2_000 if given.quick else given.lines)


Measure = Callable[[Path, argparse.Namespace], Row]
ROWS: dict[str, Measure] = {
    "a": _many_lines_a_task,
    "b": _one_line_a_task,
    "c": _memory,
    "d": _capacity,
    "e": _wide_capacity,
    "f": _kills,
    "g": _others,
    "h": _api_latency,
    "i": _first_call,
    "j": _backlog,
    "k": _small_behind_large,
    "l": _two_tenants,
    "m": _prefix,
    "n": _queueing("n", workers=1),
    "o": _queueing("o", workers=2),
    "p": _refusing("p", workers=1),
    "q": _refusing("q", workers=2),
    "r": _small_batches,
    "s": _small_calls,
    "z": _variants,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--only", type=_keys, default=list(ROWS), metavar="a,b", help=f"rows to measure, of {', '.join(ROWS)}"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast it is")
    parser.add_argument("--lines", type=int, default=50_000, help="lines of the batches of many lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    parser.add_argument("--charts", type=Path, metavar="FOLDER", help="also draw charts there; needs matplotlib")
    return parser.parse_args()


def _keys(text: str) -> list[str]:
    keys = text.split(",")
    if unknown := set(keys) - set(ROWS):
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(sorted(unknown))}")
    return keys


if __name__ == "__main__":
    raise SystemExit(main())
