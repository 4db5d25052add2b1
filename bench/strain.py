"""Measure a deployment under strain: `python -m bench.strain` prints a row per case, or with `--only` chosen cases."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from rich.console import Console

from bench import strain_callers, strain_large_files, strain_many, strain_power_cut
from bench.processes import exit_on_sigterm
from bench.report import Row, failed_row, print_rows

# A function takes its name and an empty folder, and returns its rows.
STRAINS: Mapping[str, Callable[[str, Path], list[Row]]] = {
    "callers": strain_callers.measure,
    "large-files": strain_large_files.measure,
    "power-cut": strain_power_cut.measure,
    "many-running": strain_many.measure_running,
    "many-ending": strain_many.measure_ending,
    "many-old": strain_many.measure_old,
}


@click.command()
@click.option("--only", default=",".join(STRAINS), show_default=True, help="Names, with commas between.")
def main(only: str) -> None:
    """Measure each by itself, and print the table."""
    exit_on_sigterm()
    rows: list[Row] = []
    for name in only.split(","):
        if name not in STRAINS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(STRAINS)}.", param_hint="--only")
        with tempfile.TemporaryDirectory(prefix="wylon-strain-") as folder:
            try:
                rows += STRAINS[name](name, Path(folder))
            except Exception as fault:  # the remaining cases are still measured
                rows.append(failed_row(name, fault))
    print_rows(rows, Console())
    sys.exit(not all(row.is_met for row in rows))


if __name__ == "__main__":
    main()
