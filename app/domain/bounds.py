"""The bounds on calls in flight to an upstream: the knee of latency, refusals, and a latency target.

A bound covers all workers together; no bound is infinite.
"""

import math
from collections import deque

from app.domain.knee import Cohort, KneeEstimate

# Shorter waits harm nobody, and come from this process as likely as from the upstream.
_FLOOR_S = 0.05
# Calls above the knee, as a multiple of the knee's root: calls in flight scatter this far by chance.
_SPARE = 0.5
# After this many cohorts, one cohort probes a somewhat higher limit: no capacity is lost, and calls wait longer.
_PROBE_EVERY = 12
_PROBE = 1.12
# If calls queued at every limit tried so far, probe lower after this many cohorts: the knee may be far below.
_LOWER_EVERY = 3
_BELOW = 0.9
_GROWTH = 1.15
# The growth while the absence of a knee below the tried limits is this certain.
_CERTAIN, _FAST_GROWTH = 0.9, 1.4
# Lower the bound if the upstream is free of a knee with less than this certainty; raise the bound above one half.
_UNLIKELY = 0.1
# A smaller difference is not worth a change, because the calls in flight have to follow each change.
_MATERIAL = 0.03
# If latency rose by this many deviations without more calls in flight, the upstream is slower or the answers are
# longer. Fewer calls, this part of the present, tell the two apart.
_SURPRISE = 4.0
_TEST = 0.8
# Doubted spans are remembered for as long as calls may last: at most one span comes each second.
_DOUBTS = 1_000
# Calls in flight from this part of the limit on confirm the limit; fewer calls show nothing about a higher load.
_FULL = 0.85
# The back-off: the new bound as a part of the calls in flight at a refusal.
_BACK_OFF = 0.93
# Answers without a refusal before the limit rises above a refused level, and the least number of rounds in which the
# calls in flight were answered by then: one refusal in this many calls.
_QUIET_ANSWERS = 64
_QUIET_ROUNDS = 6
# Refusals are unrelated to load after this many with fewer calls in flight, by this factor, than answered calls had.
_VAIN_CUTS = 8
_FEWER = 0.9
# If refusals outnumber answers by this many, the upstream is overloaded, and not just without one model.
_EXCESS = 96
# Whenever refusals prove unrelated to load, ignore refusals for this many times as many answers, up to a maximum.
_BELIEF = 4
_MOST_BELIEF = 64 * _QUIET_ANSWERS
# How far a target may lower or raise the limit in one step.
_TARGET_STEPS = (0.7, 1.1)


class ByLatency:
    """The bound at the knee and a little above; `reason` is latency, or probing during the search for the knee."""

    def __init__(self) -> None:
        self.bound = math.inf
        # The bound without one-cohort probes.
        self.settled = math.inf
        self.reason = "latency"
        self._estimate = KneeEstimate()
        # Spans (from, to) in which the peers' calls in flight may have differed from the known number.
        self._doubted: deque[tuple[float, float]] = deque(maxlen=_DOUBTS)
        self._changed_at = -math.inf
        self._settled = 0
        # Whether the bound is off the knee for one cohort.
        self._looks_aside = False
        # When the bound was last lowered because of a surprise, and the state before; None once the bound has moved
        # since.
        self._lowered: tuple[float, float, float, str] | None = None

    def follow(self, bound: float) -> None:
        """Adopt the bound that another worker found."""
        self.bound = self.settled = bound
        self._looks_aside, self._settled, self._lowered = False, 0, None
        self.reason = "others"

    def heed(self, bound: float, held: int) -> None:
        """Try with fewer calls than are in flight, if a peer found a bound and this worker none."""
        if self.bound == math.inf:
            self.follow(max(bound, _TEST * held))

    def doubt(self, since: float, now: float) -> None:
        """Leave out cohorts that began between `since` and `now`; undo a cut for a surprise in that span."""
        self._doubted.append((since, now))
        self._estimate.drop_from(since)
        if self._lowered is not None and self._lowered[0] >= since:
            _, self.bound, self.settled, self.reason = self._lowered
            self._lowered, self._changed_at = None, now

    def learn(self, cohort: Cohort, now: float, *, may_move: bool) -> bool:
        """Take in a cohort whose calls have mostly ended; return whether the bound has moved."""
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
        # Every limit tried so far is above the knee, which may be far below.
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
    """The calls in flight when the upstream refused a call, and attempts at more."""

    def __init__(self) -> None:
        self.bound = math.inf
        self.reason = "refused"
        # The lowest refused number; answers since the last refusal or step; the part of these answers from a full
        # limit.
        self._roof = math.inf
        self._quiet = 0
        self._proven = 0
        self._step = 1.0
        self._cut_at = -math.inf
        self._cuts = 0
        # When the run of cuts began, and the most calls in flight beside a call that began since then and was answered.
        # While the limit only falls to the upstream's capacity, every new call is refused.
        self._row_at = math.inf
        self._answered_beside = 0.0
        # Whether refusals are unrelated to the number of calls; answers without a refusal until that belief ends; the
        # excess of refusals over answers.
        self.are_unrelated = False
        self._belief = _QUIET_ANSWERS
        self._excess = 0

    @property
    def heeds_answers(self) -> bool:
        """Whether an answer may change the bound: a refusal is not settled yet."""
        return self.bound < math.inf or self.are_unrelated

    def refused(self, started_at: float, now: float, in_flight: int) -> None:
        """Lower the bound to the calls in flight without the refused call, and once a burst by a little more."""
        if in_flight == 0:
            # The upstream refuses the only call in flight: a model is away, or the upstream takes no calls. The number
            # of calls is not the cause, and calls for other models must not become fewer.
            self._give_up()
            return
        self._quiet = 0
        held = max(min(float(in_flight), self.bound), 1.0)
        if self.is_of_burst(started_at):
            self.bound = min(self.bound, held)
            self._roof = min(self._roof, held + 1)
            return
        if self.are_unrelated:
            # While one model is away, calls for others are answered: more refusals than answers mean too many calls.
            self._excess += 1
            if self._excess <= _EXCESS:
                return
            self._excess = 0
            self._end_row()
        self._cut_at = now
        self._row_at = min(self._row_at, now)
        self._cuts += held < _FEWER * self._answered_beside
        if self._cuts >= _VAIN_CUTS:
            # Fewer calls were refused as often: refusals do not depend on the number of calls.
            self._give_up()
            self._belief = min(self._belief * _BELIEF, _MOST_BELIEF)
            return
        self._proven = 0
        self._step = 1.0
        self.reason = "refused"
        self.bound, self._roof = max(held * _BACK_OFF, 1.0), held + 1

    def is_of_burst(self, started_at: float) -> bool:
        """Return whether a call that began at `started_at` is part of the burst that lowered the bound last."""
        return started_at < self._cut_at

    def forget(self) -> None:
        """Leave the bound by refusals to another worker."""
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
            started_at: when the call began.
            beside: calls in flight when the call began.
            in_flight: calls in flight now.
            limit: the most calls in flight that are allowed.
        """
        self._quiet += 1
        self._excess = max(self._excess - 1, 0)
        if started_at >= self._row_at:
            self._answered_beside = max(self._answered_beside, beside)
        if self._quiet >= self._belief:
            self.are_unrelated = False
        # Below a full limit, answers show nothing about the load that the upstream would refuse.
        if self.bound > limit or in_flight < _FULL * limit:
            return False
        self._proven += 1
        is_below = self.bound < self._roof - 1
        if self._proven < (limit if is_below or self._step > 1.0 else max(_QUIET_ANSWERS, _QUIET_ROUNDS * limit)):
            return False
        self._proven = 0
        if is_below:
            # Return to the most calls that the upstream held, by one call each time the calls in flight have been
            # answered.
            self.bound = min(self.bound + 1, self._roof - 1)
            return True
        self._end_row()
        self.bound += self._step
        self._roof = self.bound
        self._step = min(self._step * 2, max(self.bound * 0.25, 1.0))
        self.reason = "probing"
        return True


class ByTarget:
    """The calls in flight at which the mean latency meets the target."""

    def __init__(self, latency_s: float) -> None:
        self.bound = math.inf
        self._latency_s = latency_s
        self._sum_s = 0.0
        self._in_flight_sum = 0
        self._answers = 0

    def answered(self, latency_s: float, in_flight: int, limit: float, part: int) -> bool:
        """Take in the latency of a call; return whether the bound has moved.

        Args:
            latency_s: how long the call took.
            in_flight: calls in flight of all workers.
            limit: the most calls in flight allowed to all workers.
            part: this worker's share of the limit.
        """
        self._sum_s += latency_s
        self._in_flight_sum += in_flight
        self._answers += 1
        # Twice the calls in flight, because the first answers are to calls from before the bound last moved.
        if self._answers < max(2 * part, 16):
            return False
        low, high = _TARGET_STEPS
        ratio = self._latency_s / max(self._sum_s / self._answers, 1e-9)
        held = self._in_flight_sum / self._answers
        self._sum_s, self._in_flight_sum, self._answers = 0.0, 0, 0
        before = self.bound
        # Below a full limit, a low latency says nothing about more calls.
        if ratio < 1 or held > _FULL * limit:
            self.bound = max(held * min(max(ratio, low), high), 1.0)
        return self.bound != before
