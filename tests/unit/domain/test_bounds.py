"""The bound that latency sets, in cohorts made by hand."""

import math

import pytest

from app.domain.bounds import ByLatency
from app.domain.knee import Cohort

CALLS = 40


def cohort(began_at: float, latency_s: float, in_flight: int = 80) -> Cohort:
    """Return a cohort of calls that have all ended."""
    found = Cohort(began_at)
    found.calls, found.in_flight_sum, found.latencies = CALLS, CALLS * in_flight, [latency_s] * CALLS
    return found


@pytest.fixture
def surprised() -> ByLatency:
    """A bound that was lowered at 2.4, by a cohort that began at 2.0."""
    latency = ByLatency()
    for began_at in (1.0, 1.25, 1.5):
        latency.learn(cohort(began_at, 0.25), began_at + 0.25, may_move=True)
    latency.learn(cohort(2.0, 0.4), 2.4, may_move=True)
    return latency


def test_latency_that_rises_without_more_calls_lowers_the_bound_to_see_whether_these_are_why(
    surprised: ByLatency,
) -> None:
    assert surprised.bound == pytest.approx(64)


def test_a_surprise_of_a_time_in_doubt_is_taken_back(surprised: ByLatency) -> None:
    surprised.doubt(1.9, 2.6)

    assert (surprised.bound, surprised.settled) == (math.inf, math.inf)


def test_a_surprise_from_before_a_time_in_doubt_stays(surprised: ByLatency) -> None:
    surprised.doubt(2.5, 2.6)

    assert surprised.bound == pytest.approx(64)


def test_a_surprise_is_not_taken_back_once_another_worker_has_said_what_the_bound_is(surprised: ByLatency) -> None:
    surprised.follow(50)

    surprised.doubt(1.9, 2.6)

    assert surprised.bound == 50


def test_a_surprise_is_not_taken_back_once_the_bound_has_moved_for_another_reason(surprised: ByLatency) -> None:
    surprised.learn(cohort(2.45, 0.25, 62), 2.7, may_move=True)
    assert 64 < surprised.bound < math.inf

    surprised.doubt(1.9, 2.8)

    assert 64 < surprised.bound < math.inf


def test_a_cohort_of_a_time_in_doubt_that_ends_later_tells_nothing(surprised: ByLatency) -> None:
    surprised.doubt(2.5, 2.6)

    for began_at in (2.5, 2.55, 2.6):
        assert not surprised.learn(cohort(began_at, 2.0, 60), 3.0, may_move=True)

    assert surprised.bound == pytest.approx(64)
