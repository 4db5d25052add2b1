"""The table that a run prints, in Markdown."""

from collections import defaultdict
from collections.abc import Sequence

from tests.chaos.faults import Recovery
from tests.chaos.ledger import COMMIT_CYCLE_S
from tests.chaos.round import Outcome

_PAIRS = "pairs of faults"


def make_table(outcomes: Sequence[Outcome], seed: int) -> str:
    """Return the table of all rounds."""
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kinds[_PAIRS if outcome.is_pair else outcome.title].append(outcome)
    rows = [_row(kind, kinds[kind]) for kind in sorted(kinds, key=lambda kind: (kind == _PAIRS, kind))]
    rows.append(_row("**total**", outcomes))
    return "\n".join(
        [
            f"Seed {seed}. A repeated call is allowed for a line whose call was open, or answered less than"
            f" {COMMIT_CYCLE_S:g} s before, when its process was hit: killed, ended by itself, without its database, or"
            " stopped or out of the broker's reach for long enough to count as dead. Recovery in seconds: of killed"
            " workers from the kill to the next call of each line that was open, of broker faults from their end to"
            " the next answered line, else from the fault to the next recorded result.",
            "",
            "| fault | rounds | violations | calls | made again / allowed, worst round | recovery p50 | p95 | max |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *rows,
            "",
            "| figure | value |",
            "|---|--:|",
            *_figures(outcomes),
        ]
    )


def _row(kind: str, outcomes: Sequence[Outcome]) -> str:
    violated = sum(bool(outcome.violations) for outcome in outcomes)
    worst = max(outcomes, key=lambda outcome: (outcome.repeated - outcome.allowed, outcome.repeated))
    most = max(outcomes, key=lambda outcome: outcome.repeated) if worst.repeated <= worst.allowed else worst
    times = sorted(seconds for outcome in outcomes for seconds in outcome.recoveries_s)
    shown = [f"{share(times, part):.1f}" if times else "" for part in (0.5, 0.95, 1.0)]
    calls = sum(outcome.calls for outcome in outcomes)
    cells = (kind, len(outcomes), violated, calls, f"{most.repeated} / {most.allowed}", *shown)
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _figures(outcomes: Sequence[Outcome]) -> list[str]:
    single = [outcome for outcome in outcomes if not outcome.is_pair]
    lines = sorted(s for outcome in single if outcome.recovery == Recovery.LINES for s in outcome.recoveries_s)
    broker = [s for outcome in single if outcome.recovery == Recovery.PROGRESS for s in outcome.recoveries_s]
    excess = [outcome.repeated - outcome.in_flight for outcome in single if outcome.recovery == Recovery.LINES]
    figures = (
        ("a worker killed: its lines running again p95", f"{share(lines, 0.95):.1f} s" if lines else "–"),
        ("broker flushed or replaced: progress again max", f"{max(broker):.1f} s" if broker else "–"),
        (
            "calls repeated per kill: worst excess over the lines in flight",
            max([0, *excess]),
        ),
        ("calls in all", sum(outcome.calls for outcome in outcomes)),
        ("calls made again in all", sum(outcome.repeated for outcome in outcomes)),
    )
    return [f"| {name} | {value} |" for name, value in figures]


def share(ordered: Sequence[float], part: float) -> float:
    """Return the value below which this part of the others is."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]
