"""`python -m bench.limits`: run the concurrency limit against simulated upstreams, over many seeds.

Prints the figures of decision 0022, in about a minute on two cores. The limit was not tuned on the seeds.
"""

import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from app.domain.concurrency import ConcurrencyLimit
from tests.unit.domain.simulated_upstream import Caller, Simulation, always, log_normal

_FIRST_SEED = 7_000
_JOINS_AT_S = 20.0


class Case(NamedTuple):
    """Workers at an upstream, measured from `from_s` to `to_s`; `workers` 0 is a worker joined by a second worker.

    `allowed` is the limit on calls in flight of the workers together, `capacity` the number of calls served at once.
    The first worker by name begins up to `late_s` late, by the seed. `least` is the bar for the used capacity.
    """

    mode: str
    workers: int
    sigma: float
    answer_s: float = 0.25
    from_s: float = 6.0
    to_s: float = 46.0
    late_s: float = 0.0
    allowed: int = 512
    capacity: int = 96
    least: float = 0.95
    seeds: int = 40
    first_seed: int = _FIRST_SEED


class Outcome(NamedTuple):
    """Results of a seed: used share of the capacity, latency over an idle upstream's, refused share of the calls."""

    used: float
    latency: float
    refused: float


SHORT = (
    *(Case("queue", workers, sigma) for workers, sigma in ((1, 0), (2, 0), (2, 0.2), (2, 0.6), (4, 0), (4, 0.2))),
    *(Case("queue", workers, sigma, late_s=2) for workers, sigma in ((2, 0), (2, 0.2), (4, 0), (4, 0.2))),
    Case("queue", 0, 0, from_s=_JOINS_AT_S, to_s=60),
    # From the first call on, like rows d and e of the benchmarks.
    Case("queue", 2, 0, from_s=1, to_s=31, allowed=128, least=0.97),
    Case("queue", 2, 0, 2.0, from_s=1, to_s=61, allowed=576, capacity=512, least=0.97),
    *(Case("refuse", workers, 0, capacity=64, least=0.9) for workers in (1, 2, 4)),
    Case("refuse", 2, 0, late_s=2, capacity=64, least=0.9),
    Case("refuse", 0, 0, from_s=_JOINS_AT_S, to_s=60, capacity=64, least=0.9),
)
LONG = tuple(
    Case("queue", workers, 0.6, answer_s, 20 * answer_s, 80 * answer_s, seeds=12, first_seed=100)
    for answer_s in (1.0, 2.0, 10.0)
    for workers in (1, 2, 4)
)


def simulate(case: Case, seed: int) -> Outcome:
    """Run a case with a seed."""
    starts = [1 + 0.03 * place for place in range(case.workers or 1)]
    starts[0] += random.Random(seed).uniform(0, case.late_s)
    callers = [Caller(ConcurrencyLimit(case.allowed), starts_at=at) for at in starts]
    if not case.workers:
        callers.append(Caller(ConcurrencyLimit(case.allowed), joins_at=_JOINS_AT_S, starts_at=_JOINS_AT_S + 1))
    simulation = Simulation(
        callers,
        capacity=lambda _: case.capacity,
        service_s=log_normal(case.answer_s, case.sigma) if case.sigma else always(case.answer_s),
        mode=case.mode,
        allowed=case.allowed,
        seed=seed,
    )
    simulation.run(case.from_s)
    simulation.reset()
    simulation.run(case.to_s)
    return Outcome(simulation.used, simulation.mean_latency_s / case.answer_s, simulation.refused_share)


def described(case: Case, outcomes: Sequence[Outcome]) -> str:
    """Return a line with the medians, and with the share of seeds past a bar."""
    is_queue = case.mode == "queue"
    most = 1.5 if is_queue else 0.02
    values = [each.latency if is_queue else each.refused for each in outcomes]
    used = [each.used for each in outcomes]
    workers = f"{case.workers} workers" if case.workers else "one joins one"
    late = f"the first up to {case.late_s:g} s late, " if case.late_s else ""
    past = sum(value > most for value in values) / len(values)
    below = sum(value < case.least for value in used) / len(used)
    return (
        f"{case.mode}, {workers}, {late}sigma {case.sigma:g}, answers of {case.answer_s:g} s, {case.allowed} allowed: "
        f"{'latency' if is_queue else 'refused'} {statistics.median(values):.4g}, {past:.0%} past {most:g}; "
        f"used {statistics.median(used):.3f}, {below:.0%} below {case.least:g}"
    )


def main() -> None:
    """Print a line per case."""
    with ProcessPoolExecutor() as pool:
        for case in (*SHORT, *LONG):
            seeds = range(case.first_seed, case.first_seed + case.seeds)
            print(described(case, list(pool.map(simulate, [case] * case.seeds, seeds))), flush=True)


if __name__ == "__main__":
    main()
