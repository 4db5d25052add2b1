"""Rows n to q: an upstream with far less capacity than the settings allow, queueing or refusing calls on top."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from app.adapters.roster import RedisRoster
from app.config import load_settings
from app.wiring.stores import deployment_of, open_redis
from bench.batch_run import BatchRun, require_completed
from bench.processes import Deployment, deployment, upstream
from bench.report import Mark, Row
from bench.requests_file import write_requests
from bench.upstream_samples import Sample, UpstreamSampler, between_dispatches

MIN_USED_QUEUEING = 0.95
MAX_LATENCY = 1.5
MIN_USED_REFUSING = 0.9
MAX_REFUSED = 0.02
# Calls in flight allowed to the workers together.
ALLOWED = 512
LATENCY_MS = 250
# Earlier samples count apart: the workers must first find the upstream's capacity.
SETTLE_S = 5.0

_NAME = "only"
_BATCH_WITHIN_S = 300.0


@dataclass(frozen=True)
class Part:
    """Results of a span: used share of the capacity, mean latency over an idle upstream's, refused share of calls."""

    seconds: float
    used: float
    latency: float
    refused: float


def measure_queueing(key: str, folder: Path, *, workers: int, capacity: int, lines: int) -> Row:
    """Return the row of an upstream that queues calls above its capacity."""
    samples = _run(folder, workers, lines, "--capacity", str(capacity))
    start, settled, whole = _parts(samples, capacity)
    marks = [
        Mark(f"{_named(workers)}, capacity used", settled.used, MIN_USED_QUEUEING),
        Mark(f"{_named(workers)}, mean latency over an idle one's", settled.latency, MAX_LATENCY, is_most=True),
    ]
    return Row(
        key,
        f"{_named(workers)}, {ALLOWED} allowed: an upstream serving {capacity} at once queues the rest",
        f"{settled.used:.3f} of its capacity used, mean latency {settled.latency:.2f} of that when idle",
        f"≥ {MIN_USED_QUEUEING:g}; ≤ {MAX_LATENCY:g}",
        all(mark.margin >= 1 for mark in marks),
        [
            f"from {SETTLE_S:g} s on, for {settled.seconds:.1f} s, {lines:,} lines in all; "
            f"before, start-up included: {start.used:.3f} used, latency {start.latency:.2f}; "
            f"over all: {whole.used:.3f} used, latency {whole.latency:.2f}"
        ],
        _figures(start, settled, whole, samples, capacity),
        marks,
    )


def measure_refusing(key: str, folder: Path, *, workers: int, capacity: int, lines: int) -> Row:
    """Return the row of an upstream that answers 429 to calls above its capacity."""
    samples = _run(folder, workers, lines, "--capacity", str(capacity), "--overload", "refuse")
    start, settled, whole = _parts(samples, capacity)
    marks = [
        Mark(f"{_named(workers)}, capacity used", settled.used, MIN_USED_REFUSING),
        Mark(f"{_named(workers)}, calls refused", settled.refused * 100, MAX_REFUSED * 100, is_most=True, unit="%"),
    ]
    return Row(
        key,
        f"{_named(workers)}, {ALLOWED} allowed: an upstream refusing more than {capacity} at once",
        f"{settled.used:.3f} of its capacity used, {settled.refused:.2%} of the calls refused",
        f"≥ {MIN_USED_REFUSING:g}; ≤ {MAX_REFUSED:.0%}",
        all(mark.margin >= 1 for mark in marks),
        [
            f"from {SETTLE_S:g} s on, for {settled.seconds:.1f} s, {lines:,} lines in all; "
            f"before, start-up included: {start.used:.3f} used, {start.refused:.1%} refused; "
            f"over all: {whole.used:.3f} used, {whole.refused:.2%} refused"
        ],
        _figures(start, settled, whole, samples, capacity),
        marks,
    )


def _named(workers: int) -> str:
    return {1: "one worker", 2: "two workers"}[workers]


def _run(folder: Path, workers: int, lines: int, *options: str) -> list[Sample]:
    """Run a batch and return the samples from the time with enough lines to send."""
    path = folder / "requests.jsonl"
    write_requests(path, lines)
    with upstream(folder, "--latency-ms", str(LATENCY_MS), *options) as url:
        config = folder / "wylon.toml"
        config.write_text(f'[upstreams.{_NAME}]\nurls = ["{url}"]\nmax_in_flight = {ALLOWED}\n')
        with (
            deployment(folder / "data", config, "--workers", str(workers)) as deployed,
            BatchRun(deployed, path) as run,
            _roster(deployed) as roster,
            UpstreamSampler(url, lambda: _limit(roster)) as sampler,
        ):
            run.create()
            require_completed(run.wait(_BATCH_WITHIN_S), lines)
    return between_dispatches(sampler.samples, lines)


@contextmanager
def _roster(deployed: Deployment) -> Iterator[RedisRoster]:
    settings = load_settings(deployed.environ())
    client = open_redis(settings, deployment_of(settings))
    try:
        yield RedisRoster(client)
    finally:
        client.close()


def _limit(roster: RedisRoster) -> int:
    lanes = [worker.lanes[_NAME] for worker in roster.workers() if _NAME in worker.lanes]
    return sum(lane.slots for lane in lanes)


def _parts(samples: list[Sample], capacity: int) -> tuple[Part, Part, Part]:
    """Return the results before the limit had settled, from then on, and overall."""
    first, last = samples[0], samples[-1]
    if last.at_s - first.at_s < 2 * SETTLE_S:
        raise RuntimeError(f"The batch took less than {2 * SETTLE_S:g} s: give it more lines.")
    settled = next(sample for sample in samples if sample.at_s >= first.at_s + SETTLE_S)
    return _part(first, settled, capacity), _part(settled, last, capacity), _part(first, last, capacity)


def _part(first: Sample, last: Sample, capacity: int) -> Part:
    seconds = last.at_s - first.at_s
    served, refused = last.served - first.served, last.refused - first.refused
    return Part(
        seconds,
        (last.busy_s - first.busy_s) / (capacity * seconds),
        (last.latency_s - first.latency_s) / max(served, 1) / (LATENCY_MS / 1_000),
        refused / max(served + refused, 1),
    )


def _figures(start: Part, settled: Part, whole: Part, samples: list[Sample], capacity: int) -> dict[str, object]:
    return {
        "start": asdict(start),
        "settled": asdict(settled),
        "whole": asdict(whole),
        "capacity": capacity,
        "queues": samples[-1].refused == 0,
        "samples": [asdict(sample) for sample in samples],
    }
