"""What bounds the calls in flight to an upstream: the knee of latency, refusals, and a latency that is asked for.

Bounds are for all workers together, and infinite where there is none.
"""

import math
from collections import deque

from app.domain.knee import Cohort, KneeEstimate

# Waits that are shorter harm nobody, and are as likely this process's own as the upstream's.
_FLOOR_S = 0.05
# Calls above the knee, as a multiple of its root: that is how far calls in flight scatter by chance.
_SPARE = 0.5
# The limit is tried somewhat higher for one cohort after so many, which costs no capacity, only a longer wait.
_PROBE_EVERY = 12
_PROBE = 1.12
# And lower after so many where all that was tried waits in the queue: the knee may be far below.
_LOWER_EVERY = 3
_BELOW = 0.9
_GROWTH = 1.15
# Where it is so certain that there is no knee up to what was tried.
_CERTAIN, _FAST_GROWTH = 0.9, 1.4
# The bound is lowered where the upstream is free of a knee with less than this certainty, and raised above one half.
_UNLIKELY = 0.1
# A smaller difference is not worth a change, after which what is in flight first has to follow.
_MATERIAL = 0.03
# Latency that rose by so many deviations, and so much, without more calls in flight: is it the upstream, or are the
# answers longer? Fewer calls tell.
_SURPRISE = 4.0
_TEST = 0.8
# Times that are in doubt are remembered for as long as calls may last: at most one comes each second.
_DOUBTS = 1_000
# Calls in flight from this part of the limit on show that it holds; fewer show nothing of what is above them.
_FULL = 0.85
# What is given up when a call is refused.
_BACK_OFF = 0.93
# Answers without a refusal before the limit goes above what was refused, and how often at least all calls in flight
# were answered by then: one refusal in so many calls.
_QUIET_ANSWERS = 64
_QUIET_ROUNDS = 6
# So many times calls were refused with fewer in flight, by this factor, than others were answered with meanwhile.
_VAIN_CUTS = 8
_FEWER = 0.9
# So many more refusals than answers are not those of one model among several.
_EXCESS = 96
# Each time that refusals prove to be unrelated, this is believed for so many times as many answers, up to a most.
_BELIEF = 4
_MOST_BELIEF = 64 * _QUIET_ANSWERS
# How far a target may lower or raise the limit at once.
_TARGET_STEPS = (0.7, 1.1)


class ByLatency:
    """The knee and a little more; `reason` is latency, or probing while it is looked for."""

    def __init__(self) -> None:
        self.bound = math.inf
        # The bound without what is only tried for a cohort.
        self.settled = math.inf
        self.reason = "latency"
        self._estimate = KneeEstimate()
        # From when to when others may have had other calls in flight than was known.
        self._doubted: deque[tuple[float, float]] = deque(maxlen=_DOUBTS)
        self._changed_at = -math.inf
        self._settled = 0
        # Whether the bound is off the knee for one cohort.
        self._looks_aside = False
        # When it was last lowered because of a surprise, and what it was before; None where it has moved since.
        self._lowered: tuple[float, float, float, str] | None = None

    def follow(self, bound: float) -> None:
        """Take over what another worker found."""
        self.bound = self.settled = bound
        self._looks_aside, self._settled, self._lowered = False, 0, None
        self.reason = "others"

    def heed(self, bound: float, held: int) -> None:
        """Try with fewer calls than are in flight, where another found a bound and this one none."""
        if self.bound == math.inf:
            self.follow(max(bound, _TEST * held))

    def doubt(self, since: float, now: float) -> None:
        """Leave out what cohorts that began from then to now told or will tell; undo a cut for a surprise since."""
        self._doubted.append((since, now))
        self._estimate.drop_from(since)
        if self._lowered is not None and self._lowered[0] >= since:
            _, self.bound, self.settled, self.reason = self._lowered
            self._lowered, self._changed_at = None, now

    def learn(self, cohort: Cohort, now: float, *, may_move: bool) -> bool:
        """Take in a cohort of which most has ended; return whether the bound has moved."""
        if any(since <= cohort.began_at <= until for since, until in self._doubted):
            return False
        point = cohort.point(_FLOOR_S)
        surprise = self._estimate.add(point)
        if not may_move:
            return False
        before = self.bound
        in_flight = math.exp(point.in_flight)
        is_tested = cohort.began_at >= self._changed_at
        if abs(surprise) > _SURPRISE and is_tested:
            self._estimate.forget(1)
            if surprise > 0:
                lowered = (now, self.bound, self.settled, self.reason)
                self._move(_TEST * min(in_flight, self.bound), "probing", now)
                self._lowered = lowered
        elif self._estimate.knee.free > 0.5:
            if is_tested and in_flight > _FULL * self.bound:
                growth = _GROWTH if self._estimate.knee.free < _CERTAIN else _FAST_GROWTH
                self._move(self.bound * growth, "probing", now)
        elif self._estimate.knee.free < _UNLIKELY:
            self._settle(is_tested, now)
        return self.bound != before

    def _settle(self, is_tested: bool, now: float) -> None:
        at = self._estimate.knee.at
        goal = min(at + _SPARE * math.sqrt(at), self.bound * _GROWTH)
        if self._looks_aside and not is_tested:
            return
        if is_tested:
            self._settled += 1
        lowest, _ = self._estimate.span()
        # Nothing that was tried is below the knee, which then may be far below it too.
        is_above = lowest > at * 0.97
        self._looks_aside = self._settled >= (_LOWER_EVERY if is_above else _PROBE_EVERY)
        if self._looks_aside:
            self._settled = 0
            self._move(at * _BELOW if is_above else goal * _PROBE, "probing", now)
        elif abs(goal / self.bound - 1) > _MATERIAL:
            self._move(goal, "latency", now)

    def _move(self, bound: float, reason: str, now: float) -> None:
        self.bound, self.reason = max(bound, 1.0), reason
        self._changed_at, self._lowered = now, None
        if not self._looks_aside:
            self.settled = self.bound


class ByRefusals:
    """What the upstream held when it refused a call, and tries to have it hold more."""

    def __init__(self) -> None:
        self.bound = math.inf
        self.reason = "refused"
        # What is known to be refused; answers since the last refusal or step, and those of them from a full limit.
        self._roof = math.inf
        self._quiet = 0
        self._proven = 0
        self._step = 1.0
        self._cut_at = -math.inf
        self._cuts = 0
        # When the row of cuts began, and the most in flight when a call began since that was answered: while the limit
        # only falls to what the upstream holds, all that begin are refused.
        self._row_at = math.inf
        self._answered_beside = 0.0
        # Whether refusals have nothing to do with how many calls there are; answers without one until that is no longer
        # believed; how many more refusals than answers there were.
        self.are_unrelated = False
        self._belief = _QUIET_ANSWERS
        self._excess = 0

    @property
    def heeds_answers(self) -> bool:
        """Whether an answer may change anything: there was a refusal that is not settled yet."""
        return self.bound < math.inf or self.are_unrelated

    def refused(self, started_at: float, now: float, in_flight: int) -> None:
        """Lower the bound to what is in flight without the call that was refused, and once a burst by a little more."""
        if in_flight == 0:
            # It refuses the only call there is: one of its models is away, or it takes none at all. That has nothing to
            # do with how many calls there are, and those for another model must not be fewer for it.
            self._give_up()
            return
        self._quiet = 0
        held = max(min(float(in_flight), self.bound), 1.0)
        if self.is_of_burst(started_at):
            self.bound = min(self.bound, held)
            self._roof = min(self._roof, held + 1)
            return
        if self.are_unrelated:
            # Where one model is away others are answered: more refusals than answers are for too many calls.
            self._excess += 1
            if self._excess <= _EXCESS:
                return
            self._excess = 0
            self._end_row()
        self._cut_at = now
        self._row_at = min(self._row_at, now)
        self._cuts += held < _FEWER * self._answered_beside
        if self._cuts >= _VAIN_CUTS:
            # Fewer calls were refused as often: what is refused has nothing to do with how many there are.
            self._give_up()
            self._belief = min(self._belief * _BELIEF, _MOST_BELIEF)
            return
        self._proven = 0
        self._step = 1.0
        self.reason = "refused"
        self.bound, self._roof = max(held * _BACK_OFF, 1.0), held + 1

    def is_of_burst(self, started_at: float) -> bool:
        """Return whether a call that began then is one of those for which the bound was lowered last."""
        return started_at < self._cut_at

    def forget(self) -> None:
        """Leave it to another worker to say what was refused."""
        self._give_up()
        self.are_unrelated = False

    def _give_up(self) -> None:
        self.bound, self._roof, self._cut_at = math.inf, math.inf, -math.inf
        self.are_unrelated, self._excess, self._quiet, self._proven = True, 0, 0, 0
        self._end_row()

    def _end_row(self) -> None:
        self._cuts, self._row_at, self._answered_beside = 0, math.inf, 0.0

    def answered(self, started_at: float, beside: int, in_flight: int, limit: float) -> bool:
        """Count an answer to a call; return whether the bound has moved.

        Args:
            started_at: when it began.
            beside: calls in flight then.
            in_flight: calls in flight now.
            limit: how many may be.
        """
        self._quiet += 1
        self._excess = max(self._excess - 1, 0)
        if started_at >= self._row_at:
            self._answered_beside = max(self._answered_beside, beside)
        if self._quiet >= self._belief:
            self.are_unrelated = False
        # With less to do than the limit allows, the upstream has said nothing of what it would refuse.
        if self.bound > limit or in_flight < _FULL * limit:
            return False
        self._proven += 1
        is_below = self.bound < self._roof - 1
        if self._proven < (limit if is_below or self._step > 1.0 else max(_QUIET_ANSWERS, _QUIET_ROUNDS * limit)):
            return False
        self._proven = 0
        if is_below:
            # Back to the most that it held, a call each time that all have been answered.
            self.bound = min(self.bound + 1, self._roof - 1)
            return True
        self._end_row()
        self.bound += self._step
        self._roof = self.bound
        self._step = min(self._step * 2, max(self.bound * 0.25, 1.0))
        self.reason = "probing"
        return True


class ByTarget:
    """The calls in flight at which the mean latency is what is asked for."""

    def __init__(self, latency_s: float) -> None:
        self.bound = math.inf
        self._latency_s = latency_s
        self._sum_s = 0.0
        self._in_flight_sum = 0
        self._answers = 0

    def answered(self, latency_s: float, in_flight: int, limit: float, part: int) -> bool:
        """Take in the latency of one of so many calls in flight; return whether the bound has moved.

        Args:
            latency_s: how long the call took.
            in_flight: calls of all workers.
            limit: how many all may have.
            part: how many of these are this worker's.
        """
        self._sum_s += latency_s
        self._in_flight_sum += in_flight
        self._answers += 1
        # The first of these were called before the bound last moved: twice what is in flight.
        if self._answers < max(2 * part, 16):
            return False
        low, high = _TARGET_STEPS
        ratio = self._latency_s / max(self._sum_s / self._answers, 1e-9)
        held = self._in_flight_sum / self._answers
        self._sum_s, self._in_flight_sum, self._answers = 0.0, 0, 0
        before = self.bound
        # With less to do than the limit allows, latency that is low enough says nothing of more calls.
        if ratio < 1 or held > _FULL * limit:
            self.bound = max(held * min(max(ratio, low), high), 1.0)
        return self.bound != before
