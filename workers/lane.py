"""One upstream in this process: how many of its lines may be held, and how many calls to it may be in flight."""

import time
from collections.abc import Awaitable, Callable, Sequence

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

# What an upstream answers that takes no more calls than it has.
_REFUSALS = frozenset({429, 503, 529})
# Between two refills there may be no lines for a moment; after more than this they begin anew.
_IDLE_S = 0.2
# Where no call has ended for this long, batches that come may have this part of the limit beyond it.
_STALLED_S, _BEYOND = 1.0, 8
# A lane in which no call has ended for this long is blocked: it gives back what waits, and again after as long.
_BLOCKED_S = 10.0
# What a rate lets begin in this span is taken ahead; more would only be kept from workers that are as far.
_AHEAD_S = 1.0
# The wall clock when this process began, less the monotonic one.
_EPOCH_S = time.time() - time.monotonic()


def steady_time() -> float:
    """Return seconds since the epoch that never step back: workers compare when each began to call."""
    return _EPOCH_S + time.monotonic()


class Lane:
    """What bounds the lines of one upstream, between the queue and their calls.

    Belongs to the engine's loop, but for `room` and what the heartbeat does.

    Args:
        name: the upstream's.
        upstream: what is called.
        limit: how many calls may be in flight, as far as the upstream itself shows.
        rate: how many calls and tokens a minute there may be.
        concurrency: calls in flight at most, where `max_in_flight` is not given.
        max_in_flight: calls in flight at most, over all workers together.
        call_timeout_s: what calls have at most; one that has less is ended for its batch's sake.
        execution: given this lane as its upstream, makes what runs one line.
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
        # This process's part of what there may be. Of what all workers share it has none before it knows of them.
        self.slots = concurrency if max_in_flight is None else 0
        self._next_slots = self.slots
        self._next_part = 1.0
        self.room = Room(self.slots)
        self._upstream = upstream
        self._rate = rate
        # Without a rate nothing is charged: most upstreams have none, and each line would pay for it.
        self._charges = Charges(rate) if rate.has_bounds else None
        # Lines that have begun and not ended.
        self._active = 0
        self._clock = clock
        self._idle_since = clock()
        # When a call ended last, or when the first call began after a time without any.
        self._ended_at = self._idle_since
        self._gave_back_at = float("-inf")
        self._pace_from = (self._idle_since, 0)
        self._away_log = AwayLog(name)
        self.lines_per_s = 0.0

    # What the engine asks

    @property
    def allowed(self) -> int:
        """How many lines may have begun and not ended, as the upstream shows now."""
        return min(self.slots, self.limit.limit)

    def begin(self, of_batch: int = 0) -> bool:
        """Return whether one more line may begin now, and count it if so; so many of its batch have begun."""
        if self._active >= self.slots or self._active >= self._most_for(of_batch):
            return False
        if self._charges is not None and not self._charges.begin(self._clock()):
            return False
        if not self._active:
            # No call could end while there was none.
            self._ended_at = self._clock()
            if self._charges is None:
                self._begin_pace()
        self._active += 1
        return True

    def _most_for(self, of_batch: int) -> int:
        """Return how many lines may have begun, for a batch of which so many have.

        Calls that hang fill the limit, which follows what the upstream shows. A batch that comes then has some calls
        beyond the limit.
        """
        limit = self.limit.limit
        beyond = max(limit // _BEYOND, 1)
        is_stalled = of_batch < beyond and self._clock() - self._ended_at >= _STALLED_S
        return limit + beyond if is_stalled else limit

    def end(self) -> None:
        """Count a line that ended, or is to be tried again later."""
        self._active -= 1
        self._ended_at = self._clock()
        if not self._active:
            self._idle_since = self._clock()
        if self._charges is not None:
            self._charges.end(self._active, self._clock())

    def tick(self) -> None:
        """Let the limit rise, where it does so by itself."""
        self.limit.tick(self._clock())
        self._make_room()

    @property
    def waits_for_time(self) -> bool:
        """Whether more calls may begin though none ends first: when a limit rises, a pause or a minute is over."""
        is_starting = self.limit.reason == "starting"
        return self._active < self.slots and (self._active < self.limit.limit or is_starting)

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        """Call the upstream; limits learn from how that goes."""
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

    # What the heartbeat does

    def set_share(self, place: int, states: Sequence[LaneState]) -> None:
        """Take this process's part of what all workers may do together, as the one at this place, 0-based, among them.

        Called once a second. What it gains it has a second later, when those that lose it know; and of calls in flight
        as far as the others have none above their part, from before this one came.
        """
        workers, part = len(states), 1 / len(states)
        self._rate.set_share(min(part, self._next_part), self._clock())
        self._next_part = part
        if self._max_in_flight is not None:
            share = (self._max_in_flight + workers - 1 - place) // workers
            # One that reports late may still begin what it had slots for.
            elsewhere = sum(max(state.in_flight, state.slots) for number, state in enumerate(states) if number != place)
            self.slots = min(share, self._next_slots, max(self._max_in_flight - elsewhere, 0))
            self._next_slots = share
        reports = [Report(state.in_flight, state.bound, state.leads_since, state.at) for state in states]
        self.limit.set_workers(place, reports, self._next_slots, self._clock())
        self._make_room()

    def lines_to_give_back(self, place: int, states: Sequence[LaneState], waiting: int) -> int:
        """Return how many lines that wait are to be given back: no call ends here, and other workers have room.

        As long as that is so no more are taken. Where all workers stand still none has room, and lines stay where they
        are.
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
        """Whether the others have all that there may be: there are fewer calls than workers."""
        return self._next_slots == 0

    def measure(self) -> LaneState:
        """Return how it has gone since the last time; called by one thread."""
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
        """Return whether lines have become so many times as fast as was measured last, at least so long ago."""
        at, answered_before = self._pace_from
        passed_s, answered = self._clock() - at, self.answered - answered_before
        # The first few say little, and the window has a place for each call as it is.
        is_enough = passed_s >= after_s and answered >= min(self.limit.limit, self.slots)
        return is_enough and answered > times * self.lines_per_s * passed_s

    def _make_room(self) -> None:
        # At the start not for all that there may be: lines that were taken for calls that then are refused would be
        # kept from other workers.
        self.room.set_slots(min(self._held_slots(), self.limit.limit))

    def _held_slots(self) -> int:
        by_rate = self.limit.in_flight + max(_AHEAD_S * self._rate.calls_per_s(), 1.0)
        return int(min(self.slots, self.limit.prospect, by_rate))

    def _begin_pace(self) -> None:
        now = self._clock()
        if now - self._idle_since >= _IDLE_S:
            # A time without lines says nothing of how fast they get done, unless it is a rate that they wait for.
            self._pace_from = (now, self.answered)

    def _outcome(self, answer: Answer | None, timeout_s: float) -> Outcome:
        """Return what a call says of the upstream's room; `answer` is None where it was broken off."""
        if answer is None:
            return Outcome.DROPPED
        if answer.trouble is Trouble.NONE:
            return Outcome.ANSWERED
        # What fails fast, for the line's own sake, or as its server is away, says nothing of the upstream's room.
        if answer.circuit is not None and answer.circuit.is_open:
            return Outcome.DROPPED
        is_timeout = answer.error is not None and answer.error[0] == REQUEST_TIMEOUT[0]
        is_late = is_timeout and timeout_s >= self._call_timeout_s
        return Outcome.REFUSED if is_late or answer.status in _REFUSALS else Outcome.DROPPED


def _tokens_used(answer: Answer | None) -> int | None:
    """Return the tokens of a call; None where nobody says: such a server must not get any number of them."""
    if answer is None or answer.trouble is not Trouble.NONE:
        return None
    return answer.usage.total_tokens or None
