"""Write the figures of consecutive runs into `docs/benchmarks.md`, as the page's last section.

Run the program in the measured clone: the section names the commit of the current folder.
"""

import argparse
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.report import Row, read_json

_HEADING = "## Figures\n"
_CHARTS = {
    "margins.svg": "each number against its bar",
    "throughput.svg": "throughput as a part of what the bare loop does in the same run",
    "costs.svg": "where the CPU of a line goes, by process",
    "limit.svg": "the limit of calls in flight finds the room of an upstream that queues",
}


def main() -> None:
    """Rewrite the section, and copy the section's charts."""
    parser = argparse.ArgumentParser(prog="python -m bench.document", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FILE", help="what `--json` of each run wrote, in order")
    parser.add_argument("--charts", type=Path, required=True, metavar="FOLDER", help="what `--charts` of a run drew")
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    given = parser.parse_args()
    before, heading, _ = given.page.read_text().partition(_HEADING)
    runs = [{row.key: row for row in read_json(path)} for path in given.runs]
    measured_at = datetime.fromtimestamp(given.runs[-1].stat().st_mtime, UTC)
    given.page.write_text(before + heading + "\n" + _facts(measured_at, len(runs)) + "\n" + figures(runs))
    for name in _CHARTS:
        shutil.copy(given.charts / name, given.page.parent / "charts" / name)


def figures(runs: Sequence[dict[str, Row]]) -> str:
    """Return the table of rows, the charts, and the notes that runs printed below their tables, as Markdown."""
    numbers = [f"run {number}" for number in range(1, len(runs) + 1)]
    lines = [_cells(["row", *numbers, "bar", "met"]), _cells(["---"] * (len(runs) + 3))]
    for key, row in runs[0].items():
        rows = [run[key] for run in runs]
        met = "yes" if all(each.is_met for each in rows) else "**no**"
        lines.append(_cells([f"{key}: {row.what}", *(each.measured for each in rows), row.bar, met]))
    for name, what in _CHARTS.items():
        lines += ["", f"![{what}](charts/{name})"]
    for title, run in zip(numbers, runs, strict=True):
        notes = [f"{row.key}: {note}" for row in run.values() for note in row.notes]
        lines += ["", f"What {title} printed below its table:", "", *(f"    {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _facts(measured_at: datetime, runs: int) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout
    machine = f"{psutil.cpu_count()} virtual {platform.machine()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return "\n".join(
        [
            f"Of {runs} runs in a row, with nothing beside them. The machine is a small virtual one that shares its",
            "host, and its speed differs by a factor of four from day to day: compare ratios, not lines a second. The",
            "charts are of the last run.",
            "",
            _cells(["what", "with"]),
            _cells(["---", "---"]),
            _cells(["date, commit", f"{measured_at:%Y-%m-%d}, {commit.strip()} in a fresh clone"]),
            _cells(["machine", machine]),
            _cells(["system, Python", f"{platform.system()}, {python}"]),
            _cells(["command", '`make bench ARGS="--json FILE"`; `python -m bench.document` wrote what follows']),
            "",
        ]
    )


def _cells(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    main()
