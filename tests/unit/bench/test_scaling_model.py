import math
from dataclasses import replace

import pytest

from bench.scaling_costs import roster_cost, solve_two
from bench.scaling_model import Costs, Load, RosterCost, most_lines_per_s, most_workers, used
from bench.scaling_parts import RosterRead

NOTHING = RosterCost(0.0, 0.0, 0.0)
FREE = Costs(
    worker_s_per_line=0.0,
    control_s_per_line=0.0,
    control_s_per_task=0.0,
    refill_s_per_batch=0.0,
    bits_s=0.0,
    web_s_per_line=0.0,
    redis_s_per_task=0.0,
    redis_s_per_idle_worker=0.0,
    redis_clients_fixed=0.0,
    redis_clients_per_worker=0.0,
    roster_reader_s=NOTHING,
    roster_redis_s=NOTHING,
    roster_bytes=NOTHING,
    postgres_s_per_line=0.0,
    postgres_s_per_commit=0.0,
    postgres_connections_fixed=0.0,
    postgres_connections_per_worker=0.0,
    commits_per_s_of_a_batch=1_000.0,
)
LOAD = Load(workers=100, concurrency=64, call_s=5.0, lines_per_s=1_000.0)


def test_calls_in_flight_are_the_rate_times_their_time() -> None:
    shares = used(LOAD, FREE)

    assert shares["calls in flight"] == pytest.approx(1_000 * 5 / 6_400)
    assert shares["window"] == pytest.approx(1_000 * 5 / 16_000)


def test_a_writer_that_is_seldom_called_commits_each_line_and_a_busy_one_25_times_a_second() -> None:
    assert replace(LOAD, lines_per_s=10.0).commits_per_s == pytest.approx(10, rel=0.01)
    assert replace(LOAD, lines_per_s=1e8).commits_per_s == pytest.approx(2_500, rel=0.01)


def test_reading_the_roster_grows_with_the_square_of_the_workers() -> None:
    costs = replace(FREE, roster_bytes=RosterCost(0.0, 100.0, 0.0))

    few, many = (used(replace(LOAD, workers=count), costs)["Redis network"] for count in (1_000, 10_000))

    assert many / few == pytest.approx(100, rel=0.05)


def test_the_largest_rate_is_where_a_resource_is_used_up() -> None:
    costs = replace(FREE, web_s_per_line=0.001)

    assert most_lines_per_s(LOAD, costs, "web") == pytest.approx(1_000, rel=0.01)
    assert math.isinf(most_lines_per_s(LOAD, costs, "Redis CPU"))


def test_the_most_workers_are_where_a_resource_is_used_up() -> None:
    costs = replace(FREE, redis_clients_fixed=100.0, redis_clients_per_worker=10.0)

    assert most_workers(LOAD, costs, "Redis clients") == pytest.approx(990, rel=0.01)


def test_two_runs_of_different_shape_tell_two_costs_apart() -> None:
    assert solve_two((10, 1, 12.0), (5, 5, 15.0)) == pytest.approx((1.0, 2.0))


def test_a_cost_that_noise_makes_negative_is_none() -> None:
    assert solve_two((10, 1, 10.0), (10, 2, 9.0)) == (1.0, 0.0)


def test_runs_of_the_same_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        solve_two((1, 1, 1.0), (2, 2, 2.0))


def test_the_cost_of_a_roster_is_split_by_worker_and_task() -> None:
    reads = [RosterRead(count, 0.0, 0.0, 10.0 + count * (50 + 4 * held)) for count, held in SIZES]

    cost = roster_cost(reads, lambda read: read.bytes_out)

    assert (cost.fixed, cost.per_worker, cost.per_task) == pytest.approx((10.0, 50.0, 4.0))
    assert cost.of(1_000, 3) == pytest.approx(reads[1].bytes_out)


SIZES = [(1, 3), (1_000, 3), (1_000, 128)]
