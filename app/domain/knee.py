"""The knee of latency over calls in flight, above which calls only wait longer, with the estimate's uncertainty.

    latency
      |            /
      |          /     calls in flight / capacity
      | ______ /
      |       knee
      +----------------- calls in flight

Below the knee, latency does not depend on the calls in flight; above the knee, latency grows with the calls in flight,
and throughput does not. The time that answers take differs by a factor of ten and drifts, so a single latency says
nothing. The difference between times with more and with fewer calls in flight is evidence.
"""

import math
from bisect import bisect_right
from collections import deque
from typing import NamedTuple

# How many recent cohorts are believed: a cohort spans about the time of a call.
_REMEMBERED = 32
# Score a cohort by this part of its calls, the fastest: the slowest calls could take ten times as long. A smaller part
# would fail if answers take equal times: of calls that come back in waves, the calls with a place in the next wave say
# nothing about the calls that wait for the wave after.
TOLD = 0.9
# The least error of the logarithm of a latency: a smaller rise is of no consequence.
_NOISE = 0.03
# The prior probability that the upstream has room: ignorance must not throttle.
_FREE_BEFORE = 0.7
# The range of possible knees: from somewhat below the tried limits, in steps of some 4 %.
_BELOW = math.log(1.3)
_STEP = math.log(1.04)
_MAX_STEPS = 40
# How many deviations the knee is assumed above its most likely place: a trade. With 1.0, 1.2 and 1.6 deviations, one
# simulated worker used 0.935, 0.941 and 0.970 of an upstream whose answers take 10 s (log-normal, sigma 0.6), and two
# workers 0.964, 0.993 and 0.999; for four workers with answers of equal times, the median latency was 1.35, 1.44 and
# 1.68 times the latency of an idle upstream.
_HOPE = 1.2
# How latency rises past the knee: in proportion to the calls in flight if wylon alone uses the upstream; half as
# steeply if users outside wylon use as much as wylon; more steeply for the fastest of answers that take unequal times
# and wait in one queue.
_SLOPES = (0.5, 1.0, 2.0)


class Cohort:
    """Calls that began one after the other; `latencies` are seconds, of the calls answered so far."""

    __slots__ = ("began_at", "calls", "in_flight_sum", "is_closed", "is_scored", "latencies")

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.calls = 0
        self.in_flight_sum = 0
        self.latencies: list[float] = []
        self.is_closed = self.is_scored = False

    @property
    def mean_in_flight(self) -> float:
        """The mean number of calls in flight when the cohort's calls began."""
        return self.in_flight_sum / max(self.calls, 1)

    def point(self, floor_s: float) -> "Point":
        """Return the point of the cohort without its slowest calls; the others must have ended."""
        fastest = sorted(self.latencies)[: max(int(TOLD * self.calls), 1)]
        logs = [math.log(max(latency, floor_s)) for latency in fastest]
        mean = sum(logs) / len(logs)
        variance = _NOISE**2 + sum((each - mean) ** 2 for each in logs) / len(logs) / self.calls
        return Point(math.log(max(self.mean_in_flight, 1.0)), mean, variance, self.began_at)


class Point(NamedTuple):
    """Logarithms of calls in flight and of latency in seconds, the latency's variance, and when the cohort began."""

    in_flight: float
    latency: float
    variance: float
    began_at: float = 0.0


class Knee(NamedTuple):
    """A belief: `free` is the probability of no knee up to the tried limits, `at` the place of the knee, if any.

    `at` is on the high side by its uncertainty: an idle upstream costs more than a somewhat longer wait.
    """

    free: float
    at: float


_UNKNOWN = Knee(1.0, math.inf)


class KneeEstimate:
    """Estimates the knee from the last cohorts."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=_REMEMBERED)
        self.knee = _UNKNOWN

    def add(self, point: Point) -> float:
        """Add a cohort; return its latency above the expected latency, in deviations; negative if it fell below."""
        surprise = self._surprise(point)
        self._points.append(point)
        self.knee = _fit(list(self._points))
        return surprise

    def span(self) -> tuple[float, float]:
        """Return the fewest and the most calls in flight of the remembered cohorts."""
        return math.exp(min(self._points).in_flight), math.exp(max(self._points).in_flight)

    def forget(self, kept: int) -> None:
        """Drop all but the last `kept` cohorts."""
        self._points = deque(list(self._points)[-kept:] if kept else [], maxlen=_REMEMBERED)

    def drop_from(self, at: float) -> None:
        """Drop the cohorts that began at the instant `at` or later."""
        self._points = deque((point for point in self._points if point.began_at < at), maxlen=_REMEMBERED)
        self.knee = _fit(list(self._points)) if self._points else _UNKNOWN

    def _surprise(self, point: Point) -> float:
        like = [each for each in self._points if abs(each.in_flight - point.in_flight) < 0.1]
        if len(like) < 2:
            return 0.0
        mean = sum(each.latency for each in like) / len(like)
        seen = sum((each.latency - mean) ** 2 for each in like) / (len(like) - 1)
        expected = sum(each.variance for each in like) / len(like)
        variance = point.variance + max(seen, expected) * (1 + 1 / len(like))
        return (point.latency - mean) / math.sqrt(variance)


def _fit(points: list[Point]) -> Knee:
    """Weigh every knee on a grid, and the absence of a knee, by how well it explains the points."""
    points = sorted(points)
    lowest, highest = points[0].in_flight, points[-1].in_flight
    count = min(int((highest - lowest + _BELOW) / _STEP) + 1, _MAX_STEPS)
    step = (highest - lowest + _BELOW) / count
    knees = [highest - step * (number + 0.5) for number in range(count)]
    sums = _Sums(points)
    without = sums.misfit(math.inf, 0.0)
    # For each knee, the misfit with its best slope.
    misfits = [min(sums.misfit(knee, slope) for slope in _SLOPES) for knee in knees]
    # Points that scatter more than expected count for less.
    scatter = max(min(without, *misfits) / max(len(points) - 3, 1), 1.0)
    best = min(without, *misfits)
    weights = [math.exp((best - misfit) / (2 * scatter)) for misfit in misfits]
    with_knee = (1 - _FREE_BEFORE) * sum(weights) / count
    free = _FREE_BEFORE * math.exp((best - without) / (2 * scatter))
    total = max(sum(weights), 1e-300)
    at = sum(knee * weight for knee, weight in zip(knees, weights, strict=True)) / total
    spread = sum((knee - at) ** 2 * weight for knee, weight in zip(knees, weights, strict=True)) / total
    return Knee(free / (free + with_knee), math.exp(at + _HOPE * math.sqrt(spread)))


class _Sums:
    """Weighted sums over the points from each index to the end, so that a knee is judged in a few steps."""

    def __init__(self, points: list[Point]) -> None:
        self._xs = [point.in_flight for point in points]
        # (w, wx, wy, wxx, wxy) of the points from each index to the end.
        self._tails = [(0.0, 0.0, 0.0, 0.0, 0.0)]
        self._yy = 0.0
        # Far from zero, the sums of squares would lose digits.
        self._origin = points[0].latency
        for x, latency, variance, _ in reversed(points):
            y, w = latency - self._origin, 1 / variance
            a, b, c, d, e = self._tails[-1]
            self._tails.append((a + w, b + w * x, c + w * y, d + w * x * x, e + w * x * y))
            self._yy += w * y * y
        self._tails.reverse()

    def misfit(self, knee: float, slope: float) -> float:
        """Return the sum of squared deviations from a latency that is level up to the knee and rises behind it."""
        w_all, _, y_all, _, _ = self._tails[0]
        w, x, y, xx, xy = self._tails[bisect_right(self._xs, knee)]
        h = slope * (x - knee * w) if w else 0.0
        hh = slope * slope * (xx - 2 * knee * x + knee * knee * w) if w else 0.0
        yh = slope * (xy - knee * y) if w else 0.0
        return max(self._yy - 2 * yh + hh - (y_all - h) ** 2 / w_all, 0.0)
