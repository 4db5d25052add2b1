"""Several workers on one upstream, each with a limit of its own and what the others said of theirs a second ago."""

from collections.abc import Callable

import pytest

from app.domain.concurrency import ConcurrencyLimit, Outcome, Report
from tests.unit.domain.simulated_upstream import Caller, Simulation, always, log_normal

BASE_S = 0.25
ALLOWED = 512
SEEDS = range(1, 5)


def simulate(
    callers: list[Caller],
    *,
    capacity: Callable[[float], int | None] | int | None,
    mode: str = "queue",
    seed: int,
    sigma: float = 0.2,
    base_s: float = BASE_S,
) -> Simulation:
    """Return a simulation of callers that may have so many calls in flight together."""
    return Simulation(
        callers,
        capacity=capacity if callable(capacity) else lambda _: capacity,
        service_s=log_normal(base_s, sigma) if sigma else always(base_s),
        mode=mode,
        allowed=ALLOWED,
        seed=seed,
    )


def measure(simulation: Simulation, from_s: float, to_s: float) -> None:
    """Run it up to the second instant, and count from the first one on."""
    simulation.run(from_s)
    simulation.reset()
    simulation.run(to_s)


def together(count: int) -> list[Caller]:
    """Return callers that know of each other and then begin within some milliseconds."""
    return [Caller(ConcurrencyLimit(ALLOWED), starts_at=1 + 0.03 * number) for number in range(count)]


def one_late(at: float) -> list[Caller]:
    """Return a caller, and one that joins it at that time."""
    return [
        Caller(ConcurrencyLimit(ALLOWED), starts_at=1),
        Caller(ConcurrencyLimit(ALLOWED), joins_at=at, starts_at=at + 1),
    ]


def least_part(simulation: Simulation) -> float:
    """Return the answers of the caller that had the fewest, over those of the one that had the most."""
    answered = [caller.answered for caller in simulation.callers]
    return min(answered) / max(answered)


def mean_limit(callers: list[Caller], from_s: float, to_s: float) -> float:
    """Return the mean over this time of what all callers allowed themselves together."""
    limits = [[limit for at, limit, _ in caller.history if from_s <= at < to_s] for caller in callers]
    return sum(sum(each) / len(each) for each in limits)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_keep_an_upstream_that_queues_busy_and_its_queue_short(workers: int, seed: int) -> None:
    simulation = simulate(together(workers), capacity=96, seed=seed)
    measure(simulation, 10, 60)

    assert simulation.used > 0.92
    assert simulation.mean_latency_s < 1.5 * BASE_S
    assert least_part(simulation) > 0.6


@pytest.mark.parametrize("seed", range(1, 9))
def test_answers_that_come_back_in_waves_show_the_queue_all_the_same(seed: int) -> None:
    simulation = simulate(together(2), capacity=96, seed=seed, sigma=0)
    measure(simulation, 6, 41)

    assert simulation.used > 0.95
    assert simulation.mean_latency_s < 1.5 * BASE_S


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_start_in_which_none_knows_of_the_others_costs_little_of_the_capacity(seed: int) -> None:
    callers = [Caller(ConcurrencyLimit(64), starts_at=1 + 0.02 * number) for number in range(2)]
    simulation = Simulation(callers, capacity=lambda _: 96, service_s=always(BASE_S), seed=seed)
    measure(simulation, 1, 31)

    assert simulation.used > 0.96


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("late_s", [0.65, 0.95, 1.6])
def test_the_queue_stays_short_where_the_first_by_name_begins_last(late_s: float, seed: int) -> None:
    late = Caller(ConcurrencyLimit(ALLOWED), starts_at=1 + late_s)
    simulation = simulate([late, Caller(ConcurrencyLimit(ALLOWED), starts_at=1)], capacity=96, seed=seed, sigma=0)
    measure(simulation, 6, 41)

    assert simulation.used > 0.95
    assert simulation.mean_latency_s < 1.5 * BASE_S


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("base_s", [2.0, 10.0])
def test_answers_that_take_longer_than_reports_show_the_queue_as_well(base_s: float, workers: int, seed: int) -> None:
    simulation = simulate(together(workers), capacity=96, seed=seed, sigma=0.6, base_s=base_s)
    measure(simulation, 20 * base_s, 60 * base_s)

    assert simulation.used > 0.92
    assert simulation.mean_latency_s < 1.5 * base_s


@pytest.mark.parametrize("seed", SEEDS)
def test_workers_do_not_raise_each_others_limit_over_minutes(seed: int) -> None:
    simulation = simulate(together(2), capacity=96, seed=seed)
    measure(simulation, 120, 240)

    assert simulation.used > 0.95
    assert simulation.mean_latency_s < 1.4 * BASE_S


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_keep_an_upstream_that_refuses_busy_and_seldom_ask_for_too_much(workers: int, seed: int) -> None:
    simulation = simulate(together(workers), capacity=64, mode="refuse", seed=seed)
    measure(simulation, 5, 45)

    assert simulation.used > 0.9
    assert simulation.refused_share < 0.02
    assert least_part(simulation) > 0.4


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("joins_at", [2.0, 20.0])
def test_a_worker_that_joins_a_full_upstream_is_seldom_refused_and_gets_its_part(joins_at: float, seed: int) -> None:
    simulation = simulate(one_late(joins_at), capacity=64, mode="refuse", seed=seed)
    measure(simulation, joins_at, joins_at + 40)

    assert simulation.used > 0.9
    assert simulation.refused_share < 0.02
    assert least_part(simulation) > 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_that_joins_does_not_lengthen_the_queue(seed: int) -> None:
    simulation = simulate(one_late(20), capacity=96, seed=seed)
    measure(simulation, 20, 40)

    assert simulation.used > 0.92
    assert simulation.mean_latency_s < 1.4 * BASE_S
    assert least_part(simulation) > 0.6


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("leaving", [0, 1])
def test_what_a_worker_leaves_the_others_take(leaving: int, seed: int) -> None:
    callers = together(2)
    callers[leaving].ends_at = 20
    simulation = simulate(callers, capacity=96, seed=seed)
    measure(simulation, 23, 50)

    assert simulation.used > 0.93
    assert simulation.mean_latency_s < 1.4 * BASE_S


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_worker_has_no_lines_for_the_leader_takes(seed: int) -> None:
    callers = together(2)
    callers[1].lines = 4
    simulation = simulate(callers, capacity=64, mode="refuse", seed=seed)
    measure(simulation, 10, 40)

    assert simulation.used > 0.9
    assert simulation.refused_share < 0.02


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [2, 4])
def test_an_upstream_with_room_gets_all_that_is_allowed(workers: int, seed: int) -> None:
    simulation = simulate(together(workers), capacity=None, seed=seed)
    measure(simulation, 10, 40)

    assert simulation.used > 0.95


@pytest.mark.parametrize("seed", SEEDS)
def test_the_limits_follow_a_capacity_that_halves_and_comes_back(seed: int) -> None:
    callers = together(2)
    simulation = simulate(callers, capacity=lambda now: 48 if 15 <= now < 60 else 96, seed=seed)

    simulation.run(100)

    assert mean_limit(callers, 40, 60) < 80
    assert mean_limit(callers, 80, 100) > 85


def test_calls_that_begin_after_a_move_of_others_tell_nothing_together_with_those_from_before() -> None:
    limit = ConcurrencyLimit(256)
    limit.set_workers(0, [limit.report(1.0), Report(0, 0, at=0.9)], 256, 1.0)
    for number in range(20):
        limit.begin(1.1 + 0.01 * number)
    open_before = limit.begin(1.9).cohort

    limit.set_workers(0, [limit.report(2.0), Report(200, 0, at=1.9)], 256, 2.0)

    assert open_before.began_at > 0.9
    assert limit.begin(2.1).cohort.began_at == 2.0


def test_a_leader_takes_back_what_it_took_for_held_of_a_burst_that_is_refused() -> None:
    limit = ConcurrencyLimit(256)
    limit.set_workers(0, [limit.report(1.0), Report(0, 0)], 256, 1.0)
    calls = [limit.begin(0.0) for _ in range(80)]

    for call in calls[48:]:
        limit.end(call, 0.01, Outcome.REFUSED)

    # It has 48 in flight, and the other one has begun with 16.
    assert limit.report(1.0).bound <= 72


def test_a_first_call_that_is_refused_beside_others_opens_nothing() -> None:
    limit = ConcurrencyLimit(64)
    limit.set_workers(1, [Report(0, 0), Report(0, 0)], 64, 1.0)

    limit.end(limit.begin(0.0), 0.1, Outcome.REFUSED)

    assert limit.limit == 1


def test_the_only_call_of_all_workers_that_is_refused_says_nothing_of_their_number() -> None:
    limit = ConcurrencyLimit(16)
    for _ in range(10):
        limit.set_workers(0, [limit.report(1.0), Report(0, 0)], 16, 1.0)
        limit.tick(0.0)
        limit.end(limit.begin(0.0), 0.1, Outcome.REFUSED)

    limit.set_workers(0, [limit.report(1.0), Report(0, 0)], 16, 1.0)

    assert limit.limit == 16


def test_a_worker_takes_an_even_part_of_what_the_first_one_with_calls_says() -> None:
    limit = ConcurrencyLimit(64)
    reports = [Report(0, 12), Report(40, 60), limit.report(1.0)]
    for _ in range(4):
        limit.set_workers(2, reports, 64, 1.0)

    assert (limit.limit, limit.reason) == (20, "others")


def test_a_limit_that_does_not_adapt_follows_only_its_ceiling() -> None:
    limit = ConcurrencyLimit(64, is_adaptive=False)

    limit.set_workers(1, [Report(40, 60), Report(0, 0)], 32, 1.0)

    assert limit.limit == 32
