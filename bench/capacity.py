"""Rows d and e: the used share of an upstream's limited capacity while lines wait."""

from pathlib import Path

from bench.batch_run import BatchRun, require_completed
from bench.processes import deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests
from bench.upstream_samples import UpstreamSampler, between_dispatches

MIN_USED = 0.97
_BATCH_WITHIN_S = 300.0


def measure(key: str, folder: Path, *, capacity: int, latency_ms: int, concurrency: int, lines: int) -> Row:
    """Run a batch on two workers of `concurrency` and sample the upstream meanwhile."""
    path = folder / "requests.jsonl"
    write_requests(path, lines)
    with (
        upstream(folder, "--capacity", str(capacity), "--latency-ms", str(latency_ms)) as url,
        deployment(folder / "data", url, "--concurrency", str(concurrency)) as deployed,
        BatchRun(deployed, path) as run,
        UpstreamSampler(url) as sampler,
    ):
        run.create()
        require_completed(run.wait(_BATCH_WITHIN_S), lines)
    first, *_, last = between_dispatches(sampler.samples, lines)
    used = (last.busy_s - first.busy_s) / (capacity * (last.at_s - first.at_s))
    return Row(
        key,
        f"an upstream serving {capacity} at once at {latency_ms} ms",
        f"{used:.3f} of its capacity used",
        f"≥ {MIN_USED:g}",
        used >= MIN_USED,
        [
            f"{lines:,} lines, two workers of {concurrency}; counted from the first request to the last that came in, "
            f"{last.at_s - first.at_s:.1f} s, start-up of the load included: after that nothing is left to send"
        ],
        {"used": used, "seconds": last.at_s - first.at_s, "lines": lines},
        [Mark(f"capacity of {capacity} used", used, MIN_USED)],
    )
