"""Charts of a run: numbers against their bars, throughput, CPU by process, and the search for an upstream's capacity.

`python -m bench.charts FOLDER FILE…` draws the rows of runs with `--json FILE`; the last file with a row counts.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.adaptive import LATENCY_MS, SETTLE_S
from bench.report import Mark, Row, read_json

_MET, _MISSED, _LINE, _PALE = "#2f7d5b", "#c0392b", "#1f5fa8", "#8a8f98"
# The processes that spend CPU on a line.
_PARTS = {"worker": _LINE, "control": _MET, "broker": _MISSED, "web": _PALE, "beat": "#333333"}
_WIDTH_IN = 9.0
_TICKS = (0.5, 0.7, 1, 1.5, 2, 5, 10, 20, 50, 100)
# Latency is the mean over ten samples, about a second: in less time too few calls end.
_SPAN = 10


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the charts for which the rows have numbers; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if marks := [(row.key, mark) for row in rows for mark in row.marks]:
        drawn.append(_save(_margins(marks), folder / "margins.svg"))
    if timed := [row for row in rows if row.figures.get("queues")]:
        drawn.append(_save(_limits(timed), folder / "limit.svg"))
    if (ratios := _ratios({row.key: row.figures for row in rows})) is not None:
        drawn.append(_save(_throughput(ratios), folder / "throughput.svg"))
    if variants := next((row.figures for row in rows if row.key == "z"), None):
        drawn.append(_save(_costs(variants), folder / "costs.svg"))
    return drawn


def _ratios(figures: dict[str, dict[str, Any]]) -> dict[str, float] | None:
    """Return throughputs by name, as ratios to the bare loop's; None if row a has no ratio."""
    if not (whole := figures.get("a", {}).get("ratio")):
        return None
    found = {"the bare loop, which keeps nothing": 1.0, "wylon": whole}
    for name, each in figures.get("z", {}).items():
        if not name.startswith("auto"):
            found[f"wylon, {name}"] = each["ratio"]
    if times := figures.get("g", {}).get("ratio"):
        # Row g is a ratio to wylon, and `whole` is wylon's ratio to the bare loop.
        found["Ray Data's HTTP processor, which keeps nothing by line"] = whole / times
    return found


def _throughput(ratios: dict[str, float]) -> Figure:
    figure = Figure((_WIDTH_IN, 0.8 + 0.32 * len(ratios)), layout="constrained")
    axes = figure.subplots()
    for place, (name, ratio) in enumerate(ratios.items()):
        axes.barh(place, ratio, height=0.62, color=_MET if name.startswith("wylon") else _PALE)
        axes.annotate(
            f"{ratio:.2f}", (ratio, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(range(len(ratios)), list(ratios), fontsize=8)
    axes.set_ylim(len(ratios) - 0.4, -0.6)
    axes.set_xlabel("small lines a second, create → completed, as a part of the bare loop's")
    _bare(axes)
    return figure


def _costs(variants: dict[str, dict[str, float]]) -> Figure:
    """Draw the CPU of a line by process and variant."""
    figure = Figure((_WIDTH_IN, 0.9 + 0.36 * len(variants)), layout="constrained")
    axes = figure.subplots()
    for number, (part, color) in enumerate(_PARTS.items()):
        starts = [sum(_part_us(each, name) for name in list(_PARTS)[:number]) for each in variants.values()]
        widths = [_part_us(each, part) for each in variants.values()]
        axes.barh(range(len(variants)), widths, left=starts, height=0.62, color=color, label=part)
    axes.set_yticks(range(len(variants)), list(variants), fontsize=8)
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.set_xlabel("µs of CPU a line")
    axes.legend(fontsize=8, frameon=False)
    _bare(axes)
    return figure


def _part_us(figures: dict[str, float], part: str) -> float:
    """Return the summed cost of the processes with a name."""
    return sum(value for name, value in figures.items() if name.endswith("_us_per_line") and name.startswith(part))


def _margins(marks: Sequence[tuple[str, Mark]]) -> Figure:
    figure = Figure((_WIDTH_IN, 1.0 + 0.3 * len(marks)), layout="constrained")
    axes = figure.subplots()
    for place, (_, mark) in enumerate(marks):
        color = _MET if mark.margin >= 1 else _MISSED
        axes.barh(place, mark.margin - 1, left=1, height=0.62, color=color)
        axes.annotate(
            _said(mark),
            (max(mark.margin, 1), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="#333333",
        )
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xscale("log")
    margins = [mark.margin for _, mark in marks]
    # Room for the text beside the longest bar.
    axes.set_xlim(min(0.8, min(margins) / 1.1), max(margins) ** 1.3 * 1.6)
    axes.set_xticks(
        [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100) if axes.get_xlim()[0] < tick < max(margins) * 1.5]
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(marks)), [f"{key}: {mark.name}" for key, mark in marks], fontsize=8)
    axes.set_ylim(len(marks) - 0.4, -0.6)
    axes.set_xlabel("times as good as the bar asks for: left of 1 it is missed")
    _bare(axes)
    return figure


def _said(mark: Mark) -> str:
    unit = f" {mark.unit}" if mark.unit else ""
    return f"{mark.value:.3g}{unit}, bar {'≤' if mark.is_most else '≥'} {mark.bar:g}{unit}"


def _limits(rows: Sequence[Row]) -> Figure:
    figure = Figure((_WIDTH_IN, 4.6), layout="constrained")
    grid = figure.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2))
    for place, row in enumerate(rows):
        samples: list[dict[str, float]] = row.figures["samples"]
        _limit(grid[0][place], row, samples)
        _latency(grid[1][place], samples)
    grid[0][0].set_ylabel("calls")
    grid[0][0].legend(fontsize=8, frameon=False, loc="upper right")
    grid[1][0].set_ylabel("latency, ms")
    return figure


def _limit(axes: Axes, row: Row, samples: Sequence[dict[str, float]]) -> None:
    at_s = _since_start(samples)
    axes.set_title(f"{row.key}: {row.what.partition(',')[0]}", fontsize=10)
    axes.fill_between(
        at_s,
        [sample["in_service"] + sample["queued"] for sample in samples],
        color="#d5e3f3",
        linewidth=0,
        label="at the upstream, served or waiting",
    )
    limits = [sample["limit"] for sample in samples]
    axes.step(at_s, limits, where="post", color=_LINE, linewidth=1.4, label="limit, as reported each second")
    axes.axhline(row.figures["capacity"], color=_PALE, linestyle="--", linewidth=1, label="what it serves at once")
    axes.set_ylim(0, 540)
    _bare(axes)


def _latency(axes: Axes, samples: Sequence[dict[str, float]]) -> None:
    at_s, latency_ms = [], []
    times = _since_start(samples)
    for now in range(_SPAN, len(samples)):
        before, after = samples[now - _SPAN], samples[now]
        if served := after["served"] - before["served"]:
            at_s.append(times[now])
            latency_ms.append((after["latency_s"] - before["latency_s"]) / served * 1_000)
    axes.plot(at_s, latency_ms, color=_LINE, linewidth=1.4)
    axes.axhline(LATENCY_MS, color=_PALE, linestyle="--", linewidth=1)
    axes.axvline(SETTLE_S, color=_PALE, linewidth=0.8)
    axes.text(SETTLE_S + 0.4, 30, "counted from here", fontsize=8, color="#555555")
    axes.set_ylim(0)
    axes.set_xlabel("seconds since the first call")
    _bare(axes)


def _since_start(samples: Sequence[dict[str, float]]) -> list[float]:
    return [sample["at_s"] - samples[0]["at_s"] for sample in samples]


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def _save(figure: Figure, path: Path) -> Path:
    # Without date and random ids, equal numbers give equal files. No line ends in a blank.
    with mpl.rc_context({"svg.hashsalt": "wylon"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white")
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path


def main() -> None:
    """Draw charts of the rows in the files."""
    parser = argparse.ArgumentParser(prog="python -m bench.charts", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    rows: dict[str, Any] = {row.key: row for file in given.files for row in read_json(file)}
    for path in draw([rows[key] for key in sorted(rows)], given.folder):
        print(path)


if __name__ == "__main__":
    main()
