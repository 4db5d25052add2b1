"""Row i: the time from the create request of a batch to the upstream's first call."""

import statistics
import time
from pathlib import Path

import httpx

from bench.batch_run import BatchRun
from bench.processes import deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests

SMALL_LINES, MAX_SMALL_S = 10, 0.15
MAX_LARGE_S = 1.0
_SMALL_ROUNDS = 15
_LARGE_ROUNDS = 3
_CALL_WITHIN_S = 30.0
_BATCH_WITHIN_S = 300.0
# The pause between looks at the upstream's count of calls: a figure may be too high by the pause.
_POLL_S = 0.002


def measure(key: str, folder: Path, *, lines: int) -> Row:
    """Create batches in turn on an otherwise idle deployment; the figures are medians by size."""
    small, large = folder / "small.jsonl", folder / "large.jsonl"
    write_requests(small, SMALL_LINES)
    write_requests(large, lines)
    with upstream(folder) as url, deployment(folder / "data", url) as deployed:

        def first_call_s(path: Path) -> float:
            with BatchRun(deployed, path) as run, httpx.Client(trust_env=False) as client:
                stats_url = f"{url.removesuffix('/v1')}/stats"
                before = client.get(stats_url).json()["requests"]
                began = time.perf_counter()
                run.create()
                while client.get(stats_url).json()["requests"] == before:
                    if time.perf_counter() - began > _CALL_WITHIN_S:
                        raise TimeoutError("no call came")
                    time.sleep(_POLL_S)
                seconds = time.perf_counter() - began
                run.wait(_BATCH_WITHIN_S)
            return seconds

        small_s = [first_call_s(small) for _ in range(_SMALL_ROUNDS)]
        large_s = [first_call_s(large) for _ in range(_LARGE_ROUNDS)]
    small_median, large_median = statistics.median(small_s), statistics.median(large_s)
    return Row(
        key,
        f"create → first call: {SMALL_LINES} lines; {lines:,} lines",
        f"{small_median * 1_000:.0f} ms; {large_median:.2f} s",
        f"≤ {MAX_SMALL_S * 1_000:.0f} ms; ≤ {MAX_LARGE_S:g} s",
        small_median <= MAX_SMALL_S and large_median <= MAX_LARGE_S,
        [f"of {SMALL_LINES} lines, ms: {', '.join(f'{each * 1_000:.0f}' for each in small_s)}"],
        {"small_s": small_s, "large_s": large_s},
        [
            Mark(f"the first call of {SMALL_LINES} lines", small_median, MAX_SMALL_S, is_most=True, unit="s"),
            Mark(f"the first call of {lines:,} lines", large_median, MAX_LARGE_S, is_most=True, unit="s"),
        ],
    )
