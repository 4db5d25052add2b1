"""An upstream in this process: the limits on lines held and on calls in flight."""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache

from app.adapters.upstream.balanced import OpenUpstream
from app.domain.concurrency import ConcurrencyLimit, Outcome, Report
from app.domain.rates import RateLimit
from app.domain.result import REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.services.execution import ExecutionService
from app.services.ports import ANYBODY, Answer, Caller, LaneState, Upstream
from workers.away_log import AwayLog
from workers.charges import Charges
from workers.room import Room

# Statuses by which an upstream refuses further calls.
_REFUSALS = frozenset({429, 503, 529})
# Between two refills, lines may run out for a moment. After a longer gap the measurement of their pace begins anew.
_IDLE_S = 0.2
# If no call has ended for _STALLED_S, a new batch may exceed the limit by limit // _BEYOND calls.
_STALLED_S, _BEYOND = 1.0, 8
# A lane without an ended call for this long is blocked: the lane gives back waiting lines, and again after as long.
_BLOCKED_S = 10.0
# Lines that a rate limit lets begin in this time are taken ahead; more lines would be kept from equally ready workers.
_AHEAD_S = 1.0


@cache
def epoch_s() -> float:
    """Return wall clock minus monotonic clock at the first use: a module is loaded before its process is forked."""
    return time.time() - time.monotonic()


def steady_time() -> float:
    """Return seconds since the epoch that never step back: workers compare the instants at which they began to call."""
    return epoch_s() + time.monotonic()


class Lane:
    """The bounds on the lines of an upstream, between the queue and the calls.

    Belongs to the engine's loop, except for `room` and the measurements by the heartbeat.

    Args:
        name: name of the upstream.
        upstream: makes the calls.
        limit: concurrency limit learned from the upstream's answers.
        rate: limit on calls and tokens a minute.
        concurrency: most calls in flight, if `max_in_flight` is None.
        max_in_flight: most calls in flight, over all workers together.
        call_timeout_s: longest time-out of a call; a shorter time-out is due to the batch's deadline.
        execution: given this lane as the upstream, returns the service that runs a line.
    """

    def __init__(
        self,
        name: str,
        upstream: OpenUpstream,
        limit: ConcurrencyLimit,
        rate: RateLimit,
        *,
        concurrency: int,
        max_in_flight: int | None,
        call_timeout_s: float,
        execution: Callable[[Upstream], ExecutionService],
        clock: Callable[[], float] = steady_time,
    ) -> None:
        self.name = name
        self.execution = execution(self)
        self.limit = limit
        self.paused = 0
        self.answered = 0
        self._concurrency = concurrency
        self._max_in_flight = max_in_flight
        self._call_timeout_s = call_timeout_s
        # This worker's share of the calls in flight; of `max_in_flight`, 0 until the worker knows its peers.
        self.slots = concurrency if max_in_flight is None else 0
        self._next_slots = self.slots
        self._next_part = 1.0
        self.room = Room(self.slots)
        self._upstream = upstream
        self._rate = rate
        # Without a rate limit, lines are not charged: most upstreams have no limit, and charging costs every line time.
        self._charges = Charges(rate) if rate.has_bounds else None
        # Lines begun and not ended.
        self._active = 0
        self._clock = clock
        self._idle_since = clock()
        # When the last call ended, or when the first call after an idle time began.
        self._ended_at = self._idle_since
        self._gave_back_at = float("-inf")
        self._pace_from = (self._idle_since, 0)
        self._away_log = AwayLog(name)
        self.lines_per_s = 0.0

    # Used by the engine

    @property
    def allowed(self) -> int:
        """How many lines may have begun and not ended, by the present concurrency limit."""
        slots, limit = self.slots, self.limit.limit
        return limit if limit < slots else slots

    def begin(self, of_batch: int = 0) -> bool:
        """Return whether one more line may begin now, and count the line if yes; `of_batch` lines of its batch run."""
        active = self._active
        if active >= self.slots or (active >= self.limit.limit and active >= self._most_for(of_batch)):
            return False
        if self._charges is not None and not self._charges.begin(self._clock()):
            return False
        if not self._active:
            # Without a call in flight, no call could end.
            self._ended_at = self._clock()
            if self._charges is None:
                self._begin_pace()
        self._active += 1
        return True

    def _most_for(self, of_batch: int) -> int:
        """Return how many lines may run at once if a batch with `of_batch` running lines begins another line.

        Hanging calls fill the concurrency limit. A batch that comes then gets some calls beyond the limit.
        """
        limit = self.limit.limit
        beyond = max(limit // _BEYOND, 1)
        is_stalled = of_batch < beyond and self._clock() - self._ended_at >= _STALLED_S
        return limit + beyond if is_stalled else limit

    def end(self) -> None:
        """Count a line as ended, or as paused for a retry."""
        self._active -= 1
        self._ended_at = self._clock()
        if not self._active:
            self._idle_since = self._clock()
        if self._charges is not None:
            self._charges.end(self._active, self._clock())

    def tick(self) -> None:
        """Let the limit rise, if the limit rises with time."""
        self.limit.tick(self._clock())
        self._make_room()

    @property
    def waits_for_time(self) -> bool:
        """Whether calls may begin before a call ends: once a limit rises, or a pause or a minute is over."""
        is_starting = self.limit.reason == "starting"
        return self._active < self.slots and (self._active < self.limit.limit or is_starting)

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        """Call the upstream; the limits learn from the outcome."""
        started_at, charges = self._clock(), self._charges
        call = self.limit.begin(started_at)
        charge = charges.begin_call(started_at) if charges is not None else None
        answer: Answer | None = None
        try:
            answer = await self._upstream.call(endpoint, body, timeout_s, caller)
        finally:
            now = self._clock()
            self.limit.end(call, now, self._outcome(answer, timeout_s))
            if charges is not None and charge is not None:
                if answer is not None and answer.trouble is Trouble.WITHHELD:
                    charges.take_back(charge, now)
                else:
                    charges.end_call(charge, _tokens_used(answer), now)
        return answer

    def close(self) -> Awaitable[None]:
        """Close the upstream's connections."""
        return self._upstream.close()

    # Used by the heartbeat

    def set_share(self, place: int, states: Sequence[LaneState]) -> None:
        """Set this worker's share of the upstream's limits; `place` is its 0-based index among the live workers.

        Called once a second. A larger share takes effect a second later, once the other workers have reduced theirs;
        for calls in flight, only as far as the other workers hold no calls beyond their shares from before.
        """
        workers, part = len(states), 1 / len(states)
        self._rate.set_share(min(part, self._next_part), self._clock())
        self._next_part = part
        if self._max_in_flight is not None:
            share = (self._max_in_flight + workers - 1 - place) // workers
            # A worker that reports late may still fill its old slots.
            elsewhere = sum(max(state.in_flight, state.slots) for number, state in enumerate(states) if number != place)
            self.slots = min(share, self._next_slots, max(self._max_in_flight - elsewhere, 0))
            self._next_slots = share
        reports = [Report(state.in_flight, state.bound, state.leads_since, state.at) for state in states]
        self.limit.set_workers(place, reports, self._next_slots, self._clock())
        self._make_room()

    def lines_to_give_back(self, place: int, states: Sequence[LaneState], waiting: int) -> int:
        """Return how many waiting lines to give back: calls do not end here, and other workers have room.

        Until calls end again, the lane takes no more lines. If all workers stand still, no worker has room, and the
        lines stay.
        """
        now = self._clock()
        is_held_by_rate = self._charges is not None and self._rate.wait_s(now) > 0
        is_blocked = bool(self._active and waiting) and not is_held_by_rate and now - self._ended_at >= _BLOCKED_S
        room = sum(max(state.slots - state.in_flight, 0) for at, state in enumerate(states) if at != place)
        self.room.close(is_closed=is_blocked and room > 0)
        if not is_blocked or now - self._gave_back_at < _BLOCKED_S:
            return 0
        self._gave_back_at = now
        return min(room, waiting)

    @property
    def has_no_part(self) -> bool:
        """Whether this worker's share is empty, because `max_in_flight` is below the number of workers."""
        return self._next_slots == 0

    def measure(self) -> LaneState:
        """Return the lane's state since the last measurement; called by a single thread."""
        now, answered = self._clock(), self.answered
        before, answered_before = self._pace_from
        self._pace_from = (now, answered)
        self.lines_per_s = (answered - answered_before) / max(now - before, 0.001)
        self.room.set_pace(self.lines_per_s)
        self._make_room()
        slots = self._held_slots()
        bound_by = self.limit.reason if self.limit.limit < self.slots else "ceiling"
        if slots < min(self.slots, self.limit.prospect):
            bound_by = "rate"
        failing = self._upstream.failing()
        self._away_log.look(failing, self.paused, now)
        away = f"{failing[0].url}: {failing[0].error}" if failing else ""
        return LaneState(slots, self.lines_per_s, self.paused, bound_by, *self.limit.report(now), away=away)

    def has_sped_up(self, after_s: float, times: float) -> bool:
        """Return whether lines get done more than `times` times as fast as last measured, at least `after_s` ago."""
        at, answered_before = self._pace_from
        passed_s, answered = self._clock() - at, self.answered - answered_before
        # The first few lines say little, and the dispatch window already has a line for every call.
        is_enough = passed_s >= after_s and answered >= min(self.limit.limit, self.slots)
        return is_enough and answered > times * self.lines_per_s * passed_s

    def _make_room(self) -> None:
        # At the start, make room for the present limit only: lines taken for calls beyond the limit, which may be
        # refused, would be kept from other workers.
        self.room.set_slots(min(self._held_slots(), self.limit.limit))

    def _held_slots(self) -> int:
        by_rate = self.limit.in_flight + max(_AHEAD_S * self._rate.calls_per_s(), 1.0)
        return int(min(self.slots, self.limit.prospect, by_rate))

    def _begin_pace(self) -> None:
        now = self._clock()
        if now - self._idle_since >= _IDLE_S:
            # An idle time says nothing about the pace of lines, unless the lines wait for a rate limit.
            self._pace_from = (now, self.answered)

    def _outcome(self, answer: Answer | None, timeout_s: float) -> Outcome:
        """Return the evidence of a call on the upstream's room; `answer` is None if the call was cancelled."""
        if answer is None:
            return Outcome.DROPPED
        if answer.trouble is Trouble.NONE:
            return Outcome.ANSWERED
        # A call that fails fast, because of its line or of an absent server, says nothing about the upstream's room.
        if answer.circuit is not None and answer.circuit.is_open:
            return Outcome.DROPPED
        is_timeout = answer.error is not None and answer.error[0] == REQUEST_TIMEOUT[0]
        is_late = is_timeout and timeout_s >= self._call_timeout_s
        return Outcome.REFUSED if is_late or answer.status in _REFUSALS else Outcome.DROPPED


def _tokens_used(answer: Answer | None) -> int | None:
    """Return the tokens of a call; None if unknown: a server without a count must not get unlimited tokens."""
    if answer is None or answer.trouble is not Trouble.NONE:
        return None
    return answer.usage.total_tokens or None
