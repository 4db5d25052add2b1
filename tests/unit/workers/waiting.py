"""Waits with a deadline, and the objects that lines of one batch share."""

import threading
import time
from collections.abc import Callable

from app.domain.result import NO_USAGE, Result
from workers.batches_in_hand import BatchInHand
from workers.line_run import LineRun

WITHIN_S = 10.0
CHAT = "/v1/chat/completions"


def until(is_so: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail where it does not within seconds."""
    deadline = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline, "The condition never came to hold."
        time.sleep(0.002)


def batch_in_hand(batch_id: str = "batch_1", deadline: float = 1_700_000_900.0) -> BatchInHand:
    return BatchInHand(batch_id, CHAT, deadline, "files/in", "plans/one")


def run_of(lines: int, batch: BatchInHand | None = None) -> LineRun:
    return LineRun(batch or batch_in_hand(), lines)


def result(position: int, batch_id: str = "batch_1", payload: bytes = b"{}") -> Result:
    return Result(batch_id, position, True, payload, NO_USAGE)


def is_settled(run: LineRun, within_s: float = 0.0) -> bool:
    """Whether all lines of a run are settled by then."""
    settled = threading.Event()
    run.on_settled(settled.set)
    return settled.wait(within_s)
