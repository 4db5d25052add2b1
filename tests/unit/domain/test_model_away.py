"""One model of an upstream is away, its calls are refused at once; the others are served without any limit."""

import pytest

from app.domain.concurrency import ConcurrencyLimit
from tests.unit.domain.simulated_upstream import Caller, Simulation, log_normal

CEILING = 64
SEEDS = range(1, 5)


def simulate(workers: int, away_per_s: float, *, seed: int, capacity: int | None = None) -> Simulation:
    """Return a simulation of workers and an upstream, one model of which is away; its capacity is so from 60 s on."""
    return Simulation(
        [Caller(ConcurrencyLimit(CEILING), starts_at=1 + 0.03 * number) for number in range(workers)],
        capacity=lambda now: capacity if now >= 60 else None,
        service_s=log_normal(1.0, 0.3),
        mode="refuse",
        away_per_s=away_per_s,
        seed=seed,
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("away_per_s", [2, 10, 17])
@pytest.mark.parametrize(("workers", "least"), [(1, 0.9), (2, 0.8), (4, 0.8)])
def test_a_model_that_is_away_takes_no_calls_from_those_that_are_served(
    workers: int, least: float, away_per_s: float, seed: int
) -> None:
    simulation = simulate(workers, away_per_s, seed=seed)
    simulation.run(30)

    simulation.reset()
    simulation.run(90)

    assert simulation.used > least


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_upstream_that_refuses_all_the_same_is_heeded_beside_a_model_that_is_away(workers: int, seed: int) -> None:
    simulation = simulate(workers, 2, seed=seed, capacity=24 * workers)
    simulation.run(70)

    simulation.reset()
    simulation.run(120)

    assert simulation.used > 0.9
    assert simulation.refused_share < 0.6
