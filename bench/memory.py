"""Row c: the peak memory of every process with a small and with a large input."""

from pathlib import Path

from bench.batch_run import BatchRun, require_completed
from bench.footprint import read_footprints
from bench.processes import deployment, upstream
from bench.report import Mark, Row, by_process
from bench.requests_file import write_requests

# Equal lines in small and large input: only the number of lines and the file size differ, 4 and 180 MB.
BYTES_PER_LINE = 3_600
SMALL_LINES = 1_111
MAX_GROWTH_MIB = 64.0
_BATCH_WITHIN_S = 900.0


def measure(key: str, folder: Path, *, lines: int) -> Row:
    """Run the small and the large input on fresh deployments, from the upload to the download of the output."""
    small = _peaks(folder / "small", min(SMALL_LINES, lines))
    large = _peaks(folder / "large", lines)
    growth = {name: large[name] - small[name] for name in large if name in small}
    worst = max(growth, key=lambda name: growth[name])
    return Row(
        key,
        f"memory of any process, {_mb(min(SMALL_LINES, lines))} of input against {_mb(lines)}",
        f"grows {growth[worst]:.1f} MiB ({worst})",
        f"< {MAX_GROWTH_MIB:g} MiB",
        growth[worst] < MAX_GROWTH_MIB,
        [
            f"{SMALL_LINES:,} lines against {lines:,}, each of {BYTES_PER_LINE:,} bytes, each on a fresh `wylon up`",
            by_process("peak, small input", small, "MiB"),
            by_process("peak, large input", large, "MiB"),
            by_process("growth", growth, "MiB"),
        ],
        {"small_mib": small, "large_mib": large, "growth_mib": growth},
        [Mark("memory, growth", growth[worst], MAX_GROWTH_MIB, is_most=True, unit="MiB")],
    )


def _peaks(folder: Path, lines: int) -> dict[str, float]:
    folder.mkdir()
    path = folder / "requests.jsonl"
    write_requests(path, lines, BYTES_PER_LINE)
    with upstream(folder) as url, deployment(folder / "data", url) as deployed:
        with BatchRun(deployed, path) as run:
            run.create()
            batch = run.wait(_BATCH_WITHIN_S)
            require_completed(batch, lines)
            for _ in run.output_lines(batch["output_file_id"]):
                pass
        return {name: footprint.peak_mib for name, footprint in read_footprints(deployed).items()}


def _mb(lines: int) -> str:
    return f"{lines * BYTES_PER_LINE / 1e6:.0f} MB"
