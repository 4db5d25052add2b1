"""The table printed by a run."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Mark:
    """A number and its bar, for a chart; with `is_most`, less is better."""

    name: str
    value: float
    bar: float
    is_most: bool = False
    unit: str = ""

    @property
    def margin(self) -> float:
        """The factor by which the value beats the bar; below 1 the bar is missed."""
        if self.is_most:
            return self.bar / max(self.value, 1e-9)
        return self.value / self.bar


@dataclass
class Row:
    """A bar and the measurement against the bar; `notes` are printed below the table."""

    key: str
    what: str
    measured: str
    bar: str
    is_met: bool
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)


def failed_row(key: str, fault: Exception) -> Row:
    """Return the row of a measurement broken off by a fault."""
    return Row(key, "broke off", type(fault).__name__, "", is_met=False, notes=[str(fault)])


def print_rows(rows: list[Row], console: Console) -> None:
    """Print the table, then the notes of the rows."""
    table = Table("", "what", "measured", "bar", "verdict")
    for row in rows:
        table.add_row(row.key, row.what, row.measured, row.bar, "met" if row.is_met else "MISSED")
    console.print(table)
    for row in rows:
        for note in row.notes:
            console.print(f"{row.key}: {note}", highlight=False, markup=False, soft_wrap=True)


def write_json(rows: list[Row], path: Path) -> None:
    """Write the rows with their figures."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def read_json(path: Path) -> list[Row]:
    """Return the rows written by `write_json`."""
    rows = json.loads(path.read_text())
    return [Row(**{**row, "marks": [Mark(**mark) for mark in row["marks"]]}) for row in rows]


def by_process(label: str, numbers: dict[str, float], unit: str) -> str:
    """Return a line with the processes' names and numbers."""
    listed = ", ".join(f"{name} {number:.1f}" for name, number in sorted(numbers.items()))
    return f"{label} ({unit}): {listed}"
