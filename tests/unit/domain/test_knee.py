import math

from app.domain.knee import Cohort, KneeEstimate, Point


def cohort(latencies: list[float], in_flight: int) -> Cohort:
    """Return a cohort of calls that have all ended."""
    found = Cohort(0.0)
    found.calls, found.in_flight_sum, found.latencies = len(latencies), in_flight * len(latencies), latencies
    return found


def point(in_flight: float, latency_s: float, began_at: float) -> Point:
    return Point(math.log(in_flight), math.log(latency_s), 0.001, began_at)


def test_what_was_learned_of_cohorts_that_began_at_an_instant_or_later_is_dropped() -> None:
    estimate = KneeEstimate()
    for in_flight in (20, 40, 60):
        estimate.add(point(in_flight, 0.25, began_at=0))
    before = estimate.knee
    for in_flight in (80, 100, 120):
        estimate.add(point(in_flight, 0.25 * in_flight / 60, began_at=1))
    misled = estimate.knee

    estimate.drop_from(1)

    assert misled.free < 0.1 < before.free
    assert estimate.knee == before


def test_without_any_cohort_nothing_is_known() -> None:
    estimate = KneeEstimate()
    unknown = estimate.knee
    estimate.add(point(20, 0.25, began_at=0))

    estimate.drop_from(0)

    assert estimate.knee == unknown


def test_a_cohort_tells_what_waited_for_the_next_wave_but_not_of_its_slowest_tenth() -> None:
    at_once = cohort([0.25] * 20, 30)
    in_two_waves = cohort([0.25] * 10 + [0.5] * 10, 30)
    with_a_straggler = cohort([0.25] * 18 + [9.0] * 2, 30)

    assert at_once.point(0.05).latency == with_a_straggler.point(0.05).latency == math.log(0.25)
    assert in_two_waves.point(0.05).latency > math.log(0.3)
