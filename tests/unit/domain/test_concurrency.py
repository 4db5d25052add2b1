"""The limit of calls in flight, at simulated upstreams that queue, refuse or have room."""

from collections.abc import Callable

import pytest

from app.domain.concurrency import ConcurrencyLimit, Outcome
from tests.unit.domain.simulated_upstream import Caller, Simulation, always, log_normal

BASE_S = 0.25
SEEDS = range(1, 4)


def simulate(
    caller: Caller,
    *,
    capacity: Callable[[float], int | None] | int | None,
    mode: str = "queue",
    sigma: float = 0.0,
    seed: int = 1,
) -> Simulation:
    """Return a simulation that counts after five seconds, in which the limit has settled."""
    simulation = Simulation(
        [caller],
        capacity=capacity if callable(capacity) else lambda _: capacity,
        service_s=log_normal(BASE_S, sigma) if sigma else always(BASE_S),
        mode=mode,
        seed=seed,
    )
    simulation.run(5)
    simulation.reset()
    return simulation


def test_a_limit_that_does_not_adapt_stays_at_its_ceiling() -> None:
    caller = Caller(ConcurrencyLimit(200, is_adaptive=False))

    simulate(caller, capacity=10).run(10)

    assert (caller.limit.limit, caller.limit.reason) == (200, "ceiling")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sigma", [0.0, 0.6])
def test_an_upstream_with_room_gets_all_that_is_allowed(sigma: float, seed: int) -> None:
    caller = Caller(ConcurrencyLimit(128))

    simulation = simulate(caller, capacity=None, sigma=sigma, seed=seed)
    simulation.run(30)

    assert caller.limit.limit == 128
    assert simulation.used > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_an_upstream_that_queues_is_kept_busy_and_its_queue_short(seed: int) -> None:
    caller = Caller(ConcurrencyLimit(512))

    simulation = simulate(caller, capacity=96, seed=seed)
    simulation.run(30)

    assert caller.limit.reason in ("latency", "probing")
    assert simulation.used > 0.95
    assert simulation.mean_latency_s < 1.5 * BASE_S


@pytest.mark.parametrize("seed", SEEDS)
def test_an_upstream_that_refuses_is_kept_busy_and_seldom_asked_for_too_much(seed: int) -> None:
    caller = Caller(ConcurrencyLimit(512))

    simulation = simulate(caller, capacity=64, mode="refuse", seed=seed)
    simulation.run(30)

    assert simulation.used > 0.9
    assert simulation.refused_share < 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_what_an_upstream_refuses_is_not_forgotten_while_there_is_less_to_do(seed: int) -> None:
    caller = Caller(ConcurrencyLimit(512))
    simulation = simulate(caller, capacity=64, mode="refuse", sigma=0.2, seed=seed)

    caller.lines = 32
    simulation.run(80)
    simulation.reset()
    caller.lines = None
    simulation.run(82)

    assert caller.limit.limit <= 64
    assert simulation.refused_share < 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_the_limit_follows_a_capacity_that_halves_and_comes_back(seed: int) -> None:
    caller = Caller(ConcurrencyLimit(512))

    simulation = simulate(caller, capacity=lambda now: 48 if 15 <= now < 60 else 96, sigma=0.2, seed=seed)
    simulation.run(55)
    while_halved = caller.limit.limit
    simulation.run(90)

    assert while_halved < 72 < caller.limit.limit
    assert simulation.used > 0.95


def test_an_upstream_that_refuses_all_leaves_the_limit_for_when_it_takes_some() -> None:
    limit = ConcurrencyLimit(16)

    for _ in range(30):
        begun = [limit.begin(1.0) for _ in range(16)]
        for call in begun:
            limit.end(call, 1.01, Outcome.REFUSED)

    assert limit.limit == 16


def test_refusals_count_again_after_a_time_without_any() -> None:
    limit = ConcurrencyLimit(64)
    limit.end(limit.begin(0.0), 0.1, Outcome.REFUSED)
    for number in range(64):
        limit.end(limit.begin(1.0), 1.1 + number / 1_000, Outcome.ANSWERED)

    for _ in range(10):
        limit.begin(2.0)
    limit.end(limit.begin(2.0), 2.1, Outcome.REFUSED)

    assert limit.limit < 10


def test_calls_that_were_dropped_leave_room_and_say_nothing() -> None:
    limit = ConcurrencyLimit(2, is_adaptive=False)
    calls = [limit.begin(0.0), limit.begin(0.0)]
    assert limit.in_flight == limit.limit

    limit.end(calls[0], 0.1, Outcome.DROPPED)

    assert limit.in_flight == 1
    assert limit.limit == 2
