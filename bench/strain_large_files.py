"""A small batch and a running batch beside eight creates of eight different files of brackets."""

from contextlib import ExitStack
from pathlib import Path

from app.domain.limits import MIB
from bench.batch_run import BatchRun, require_completed
from bench.dear_file import write_dear_file
from bench.processes import deployment, upstream
from bench.report import Row
from bench.requests_file import write_requests

_FILES = 8
_SMALL_LINES = 10
_SMALL_BATCHES = 5
_WITHIN_S = 900.0
MAX_SMALL_S = 3.0
MIN_OF_ITSELF = 0.8


def measure(key: str, folder: Path, *, size: int = 192 * MIB, lines: int = 50_000) -> list[Row]:
    """Run a batch alone, then an equal batch while the files are checked and small batches come in turn."""
    small_path, running_path = folder / "small.jsonl", folder / "running.jsonl"
    write_requests(small_path, _SMALL_LINES)
    write_requests(running_path, lines)
    with upstream(folder) as url, deployment(folder / "data", url) as deployed, ExitStack() as stack:
        large = []
        for number in range(_FILES):
            path = folder / "large.jsonl"
            write_dear_file(path, size, name=str(number))
            large.append(stack.enter_context(BatchRun(deployed, path)))
        small = [stack.enter_context(BatchRun(deployed, small_path)) for _ in range(_SMALL_BATCHES)]
        alone, beside = (stack.enter_context(BatchRun(deployed, running_path)) for _ in range(2))
        alone.create()
        require_completed(alone.wait(_WITHIN_S), lines)

        beside.create()
        beside.wait(_WITHIN_S, until={"in_progress", "completed"})
        for run in large:
            run.create()
        validated_s, took_s = [], []
        for run in small:
            run.create()
            require_completed(run.wait(_WITHIN_S), _SMALL_LINES)
            times = run.times()
            validated_s.append(times.validate_s)
            took_s.append(times.total_s)
        require_completed(beside.wait(_WITHIN_S), lines)
        for run in large:
            run.wait(_WITHIN_S)
        all_checked_s = large[0].elapsed_s
    ratio = alone.times().run_s / beside.times().run_s
    said = f"beside {_FILES} creates of {_FILES} files of {size // MIB} MiB of brackets"
    return [
        Row(
            f"{key}: small",
            f"a batch of {_SMALL_LINES} lines {said}",
            f"{max(took_s):.1f} s",
            f"≤ {MAX_SMALL_S:g} s",
            max(took_s) <= MAX_SMALL_S,
            [f"validated after {max(validated_s):.1f} s at most; all files checked after {all_checked_s:.0f} s"],
            {"took_s": took_s, "validated_s": validated_s, "all_checked_s": all_checked_s},
        ),
        Row(
            f"{key}: running",
            f"lines/s of a batch of {lines:,} {said}",
            f"{ratio:.2f} of itself",
            f"≥ {MIN_OF_ITSELF:g}",
            ratio >= MIN_OF_ITSELF,
            [f"{lines / alone.times().run_s:,.0f} lines/s alone, {lines / beside.times().run_s:,.0f} beside"],
            {"alone_s": alone.times().run_s, "beside_s": beside.times().run_s},
        ),
    ]
