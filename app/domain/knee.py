"""Where more calls at once only wait longer: the knee of latency over calls in flight, with what is known of it.

    latency
      |            /
      |          /     calls in flight / capacity
      | ______ /
      |       knee
      +----------------- calls in flight

Below the knee a call takes as long as it takes; above it, latency grows as the calls in flight do, and throughput does
not.
How long answers take differs by a factor of ten and drifts, so that a latency alone says nothing. What says
something is how it differs between times with more and with fewer calls in flight.
"""

import math
from bisect import bisect_right
from collections import deque
from typing import NamedTuple

# How many cohorts back are believed: one is about the time of one call.
_REMEMBERED = 32
# A cohort tells what this part of it says that was the fastest: the slowest would have to be waited for ten times as
# long. Less would not do where answers all take the same time: of calls that come back in waves, those that find a
# place in the next one say nothing of those that wait for the one after it.
TOLD = 0.9
# Logarithms of latency are never known better than this: a rise that is smaller is of no consequence.
_NOISE = 0.03
# How certain it is beforehand that the upstream has room: what is not known must not throttle.
_FREE_BEFORE = 0.7
# Where knees are looked for: from somewhat below all that was tried, in steps of some 4 %.
_BELOW = math.log(1.3)
_STEP = math.log(1.04)
_MAX_STEPS = 40
# Deviations that the knee is taken to be above what is most likely: a trade. Of one simulated worker and an upstream
# whose answers take 10 s (log-normal, sigma 0.6), 1.0, 1.2 and 1.6 of these used 0.935, 0.941 and 0.970, of two 0.964,
# 0.993 and 0.999; of four workers whose answers all take the same time the median latency was 1.35, 1.44 and 1.68 times
# that of an idle upstream.
_HOPE = 1.2
# How latency rises past the knee: as the calls in flight where they alone use the upstream; half so steeply where
# others, not of wylon, use as much; steeper for the fastest of answers that take unequal times and wait in one line.
_SLOPES = (0.5, 1.0, 2.0)


class Cohort:
    """Calls that began one after the other; `latencies` are seconds, of those that were answered so far."""

    __slots__ = ("began_at", "calls", "in_flight_sum", "is_closed", "is_scored", "latencies")

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.calls = 0
        self.in_flight_sum = 0
        self.latencies: list[float] = []
        self.is_closed = self.is_scored = False

    @property
    def mean_in_flight(self) -> float:
        """How many calls were in flight when these began."""
        return self.in_flight_sum / max(self.calls, 1)

    def point(self, floor_s: float) -> "Point":
        """Return what all but the slowest of it say; that many must have ended."""
        fastest = sorted(self.latencies)[: max(int(TOLD * self.calls), 1)]
        logs = [math.log(max(latency, floor_s)) for latency in fastest]
        mean = sum(logs) / len(logs)
        variance = _NOISE**2 + sum((each - mean) ** 2 for each in logs) / len(logs) / self.calls
        return Point(math.log(max(self.mean_in_flight, 1.0)), mean, variance, self.began_at)


class Point(NamedTuple):
    """Logarithms of calls in flight and of latency in seconds, the variance of the second, when the cohort began."""

    in_flight: float
    latency: float
    variance: float
    began_at: float = 0.0


class Knee(NamedTuple):
    """What is believed: `free` is how likely there is no knee up to what was tried, `at` where it is if there is one.

    `at` is on the high side by what is uncertain: an upstream that idles costs more than a somewhat longer wait.
    """

    free: float
    at: float


_UNKNOWN = Knee(1.0, math.inf)


class KneeEstimate:
    """Believes what the last cohorts showed."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=_REMEMBERED)
        self.knee = _UNKNOWN

    def add(self, point: Point) -> float:
        """Take a cohort in; return by how many deviations its latency was above what was expected, below negative."""
        surprise = self._surprise(point)
        self._points.append(point)
        self.knee = _fit(list(self._points))
        return surprise

    def span(self) -> tuple[float, float]:
        """Return the fewest and the most calls in flight that are remembered."""
        return math.exp(min(self._points).in_flight), math.exp(max(self._points).in_flight)

    def forget(self, kept: int) -> None:
        """Drop all but the last cohorts."""
        self._points = deque(list(self._points)[-kept:] if kept else [], maxlen=_REMEMBERED)

    def drop_from(self, at: float) -> None:
        """Drop the cohorts that began at this instant or later."""
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
    """Weigh every knee on a grid by how well it explains the points, and the absence of one likewise."""
    points = sorted(points)
    lowest, highest = points[0].in_flight, points[-1].in_flight
    count = min(int((highest - lowest + _BELOW) / _STEP) + 1, _MAX_STEPS)
    step = (highest - lowest + _BELOW) / count
    knees = [highest - step * (number + 0.5) for number in range(count)]
    sums = _Sums(points)
    without = sums.misfit(math.inf, 0.0)
    # For each knee its best slope, and what it leaves unexplained.
    misfits = [min(sums.misfit(knee, slope) for slope in _SLOPES) for knee in knees]
    # What scatters more than it should counts for less.
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
    """Weighted sums over the points from each one on, so that a knee is judged in a few steps."""

    def __init__(self, points: list[Point]) -> None:
        self._xs = [point.in_flight for point in points]
        # (w, wx, wy, wxx, wxy) of the points from each place to the end.
        self._tails = [(0.0, 0.0, 0.0, 0.0, 0.0)]
        self._yy = 0.0
        # Far from zero the sums of squares would lose their digits.
        self._origin = points[0].latency
        for x, latency, variance, _ in reversed(points):
            y, w = latency - self._origin, 1 / variance
            a, b, c, d, e = self._tails[-1]
            self._tails.append((a + w, b + w * x, c + w * y, d + w * x * x, e + w * x * y))
            self._yy += w * y * y
        self._tails.reverse()

    def misfit(self, knee: float, slope: float) -> float:
        """Return the sum of squared deviations from latency that is level up to the knee and rises behind it."""
        w_all, _, y_all, _, _ = self._tails[0]
        w, x, y, xx, xy = self._tails[bisect_right(self._xs, knee)]
        h = slope * (x - knee * w) if w else 0.0
        hh = slope * slope * (xx - 2 * knee * x + knee * knee * w) if w else 0.0
        yh = slope * (xy - knee * y) if w else 0.0
        return max(self._yy - 2 * yh + hh - (y_all - h) ** 2 / w_all, 0.0)
