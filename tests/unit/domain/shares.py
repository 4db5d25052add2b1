"""Running batches, and the turns that a window of 120 lines gives them."""

from collections import Counter
from typing import Any

from app.domain.batch import RunningTotal
from app.domain.fairness import Sharing, Turn, Weights, Window
from app.domain.standings import RunningBatch

NOW = 1_700_000_000.0
DAY_S = 86_400.0


def batch(name: str = "batch_1", tenant: str = "tenant", *, outstanding: int = 0, **fields: Any) -> RunningBatch:
    values: dict[str, Any] = {
        "lines_waiting": 10_000,
        "lines_per_task": 1,
        "created_at": NOW,
        "expires_at": NOW + DAY_S,
        "is_young": outstanding == 0,
        "is_new": outstanding == 0,
    }
    return RunningBatch(name, tenant, outstanding, **(values | fields))


def share(
    *running: RunningBatch,
    window: int = 120,
    paused: int = 0,
    weights: Weights | None = None,
    now: float = NOW,
    others: dict[str, RunningTotal] | None = None,
    is_slow: bool = False,
) -> tuple[Sharing, list[Turn]]:
    of_all = Window(window + paused, window, paused, is_slow=is_slow)
    sharing = Sharing(running, of_all, weights or Weights(), now, others)
    return sharing, list(sharing.turns())


def lines_of(turns: list[Turn]) -> Counter[str]:
    lines: Counter[str] = Counter()
    for turn in turns:
        lines[turn.batch_id] += turn.lines
    return lines
