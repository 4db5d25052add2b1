"""Rows d and e: how much of an upstream of limited capacity is used while lines wait for it."""

import threading
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.batch_run import BatchRun, require_completed
from bench.processes import deployment, upstream
from bench.report import Row
from bench.requests_file import write_requests

MIN_USED = 0.97
_SAMPLE_S = 0.1
_BATCH_WITHIN_S = 300.0


@dataclass(frozen=True)
class Sample:
    """What the upstream said of itself at one moment; `busy_s` is the integral of its requests in service."""

    at_s: float
    busy_s: float
    requests: int


def measure(key: str, folder: Path, *, capacity: int, latency_ms: int, concurrency: int, lines: int) -> Row:
    """Run one batch on two workers of `concurrency` and sample the upstream meanwhile."""
    path = folder / "requests.jsonl"
    write_requests(path, lines)
    with (
        upstream(folder, "--capacity", str(capacity), "--latency-ms", str(latency_ms)) as url,
        deployment(folder / "data", url, "--concurrency", str(concurrency)) as deployed,
        BatchRun(deployed, path) as run,
        _Sampler(url) as sampler,
    ):
        run.create()
        require_completed(run.wait(_BATCH_WITHIN_S), lines)
    first, last = between_dispatches(sampler.samples, lines)
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
    )


def between_dispatches(samples: list[Sample], lines: int) -> tuple[Sample, Sample]:
    """Return the last sample before the first request and the last one with requests still to come."""
    first = max((sample for sample in samples if sample.requests == 0), key=lambda sample: sample.at_s)
    last = max((sample for sample in samples if 0 < sample.requests < lines), key=lambda sample: sample.at_s)
    return first, last


class _Sampler:
    """Asks the upstream for its counters from a thread of its own until the end of the block."""

    def __init__(self, url: str) -> None:
        self.samples: list[Sample] = []
        self._stats_url = f"{url.removesuffix('/v1')}/stats"
        self._has_begun = threading.Event()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        # The first sample must come before the first request.
        self._has_begun.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join()

    def _sample(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not self._is_done.is_set():
                stats = client.get(self._stats_url).json()
                self.samples.append(Sample(stats["elapsed_s"], stats["busy_s"], stats["requests"]))
                self._has_begun.set()
                self._is_done.wait(_SAMPLE_S)
