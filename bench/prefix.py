"""Computed prompt tokens and time with prefix grouping, against a run of the file in input order.

`python -m bench.prefix` makes the two runs with a real model on the CPU; `make .venv/.ready-llm` installs the model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from bench.batch_run import BatchRun, require_completed
from bench.prefix_file import PROMPTS, write_shuffled
from bench.processes import deployment
from bench.report import Mark, Row, print_rows

MAX_COMPUTED_RATIO = 0.6
MAX_TIME_RATIO = 0.75
# Calls at once, equal to the slots of the model server.
_SLOTS = 4
_BATCH_WITHIN_S = 900.0
_END_WITHIN_S = 15.0
_MODEL_SERVER = Path(__file__).with_name("prefix_model.py")


@dataclass(frozen=True)
class Reading:
    """The prompt tokens that the model read for a batch, and the time of the batch."""

    prompt_tokens: int
    cached_tokens: int
    time_s: float

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens not in the model server's cache."""
        return self.prompt_tokens - self.cached_tokens


def measure(key: str, folder: Path, *, lines: int, cache_mib: int = 0) -> Row:
    """Run a shuffled file with and without grouping, on freshly started model servers.

    Args:
        key: the row's key.
        folder: for logs and data.
        lines: number of lines, which share a few system prompts.
        cache_mib: the model server's prompt cache besides the slots; with 0 the prompts exceed the server's memory.
    """
    path = folder / "shuffled.jsonl"
    write_shuffled(path, lines)
    read = {grouping: _read(folder / grouping, path, lines, grouping, cache_mib) for grouping in ("off", "on")}
    off, on = read["off"], read["on"]
    computed = on.computed_tokens / off.computed_tokens
    time = on.time_s / off.time_s
    return Row(
        key,
        f"{lines} lines with {PROMPTS} system prompts shuffled, real model, {_SLOTS} slots, against input order",
        f"{computed:.2f} of the prompt tokens computed, {time:.2f} of the time",
        f"≤ {MAX_COMPUTED_RATIO:g}, ≤ {MAX_TIME_RATIO:g}",
        computed <= MAX_COMPUTED_RATIO and time <= MAX_TIME_RATIO,
        [_described(f"grouping {grouping}", one) for grouping, one in read.items()],
        {
            "lines": lines,
            "computed_ratio": computed,
            "time_ratio": time,
            **{grouping: asdict(one) | {"computed_tokens": one.computed_tokens} for grouping, one in read.items()},
        },
        [
            Mark("lines that begin alike, prompt tokens", computed, MAX_COMPUTED_RATIO, is_most=True),
            Mark("lines that begin alike, time", time, MAX_TIME_RATIO, is_most=True),
        ],
    )


def _read(folder: Path, path: Path, lines: int, grouping: str, cache_mib: int) -> Reading:
    folder.mkdir()
    options = ("--workers", "1", "--concurrency", str(_SLOTS))
    settings = {"WYLON_PREFIX_GROUPING": grouping}
    with (
        _model_server(folder, cache_mib) as url,
        deployment(folder / "data", url, *options, settings=settings) as deployed,
        BatchRun(deployed, path) as run,
    ):
        run.create()
        batch = run.wait(_BATCH_WITHIN_S)
        require_completed(batch, lines)
        # The output must be in input order, whatever the order of the calls.
        ids = [json.loads(line)["custom_id"] for line in run.output_lines(batch["output_file_id"])]
        if ids != [str(number) for number in range(lines)]:
            raise RuntimeError("The output is not in the order of the input.")
        usage = batch["usage"]
        cached = usage["input_tokens_details"]["cached_tokens"]
        return Reading(usage["input_tokens"], cached, run.times().total_s)


@contextmanager
def _model_server(folder: Path, cache_mib: int) -> Iterator[str]:
    """Run the model of `make demo-llm` with an empty cache; yields the base URL."""
    command = [sys.executable, str(_MODEL_SERVER), str(cache_mib)]
    with (folder / "model.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        # The server prints its address, or ends.
        ready = next((line for line in server.stdout or () if line.startswith("ready ")), None)
        if ready is None:
            raise RuntimeError(f"The model server did not start:\n{(folder / 'model.log').read_text(errors='replace')}")
        yield ready.split()[1]
    finally:
        server.terminate()
        try:
            server.communicate(timeout=_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()


def _described(what: str, read: Reading) -> str:
    return (
        f"{what}: {read.time_s:.1f} s, {read.computed_tokens:,} of {read.prompt_tokens:,} prompt tokens computed, "
        f"{read.cached_tokens:,} cached"
    )


def main() -> int:
    """Print the row; return 0 if the bars were met."""
    parser = argparse.ArgumentParser(prog="python -m bench.prefix", description=__doc__)
    parser.add_argument("--lines", type=int, default=96, help="lines of the file")
    parser.add_argument("--cache-mib", type=int, default=0, help="what the model server may keep beside its slots")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wylon-bench-") as folder:
        row = measure("prefix", Path(folder), lines=given.lines, cache_mib=given.cache_mib)
    print_rows([row], Console(width=None if Console().is_terminal else 160))
    return 0 if row.is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
