"""One upstream in this process: how many of its lines may be held, and how many calls to it may be in flight."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from app.adapters.upstream.balanced import OpenUpstream
from app.domain.concurrency import ConcurrencyLimit, Outcome, Report
from app.domain.rates import RateLimit, Ticket
from app.domain.result import REQUEST_TIMEOUT
from app.domain.retry import Trouble
from app.services.execution import ExecutionService
from app.services.ports import Answer, LaneState, Upstream
from workers.room import Room

# What an upstream answers that takes no more calls than it has.
_REFUSALS = frozenset({429, 503, 529})
# What a rate lets begin in this span is taken ahead; more would only be kept from workers that are as far.
_AHEAD_S = 1.0


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
        clock: Callable[[], float] = time.monotonic,
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
        # Lines that have begun and not ended; what the rate has charged for those whose call is still to come.
        self._active = 0
        self._tickets: deque[Ticket] = deque()
        # Calls in flight that took one of those.
        self._charged = 0
        self._clock = clock
        self._pace_from = (clock(), 0)
        self.lines_per_s = 0.0

    # What the engine asks

    def begin(self) -> bool:
        """Return whether one more line may begin now, and count it if so."""
        now = self._clock()
        if self._active >= min(self.limit.limit, self.slots) or self._rate.wait_s(now) > 0:
            return False
        self._active += 1
        # Charged here and not with its call, or a whole lot would begin by one look at the rate.
        self._tickets.append(self._rate.begin(now))
        return True

    def end(self) -> None:
        """Count a line that ended, or is to be tried again later."""
        self._active -= 1
        # A line that ended without a call leaves its ticket behind, if none that ran alone has taken it.
        while self._tickets and len(self._tickets) > self._active - self._charged:
            self._rate.give_back(self._tickets.popleft(), self._clock())

    def tick(self) -> None:
        """Let the limit rise, where it does so by itself."""
        self.limit.tick(self._clock())

    @property
    def waits_for_time(self) -> bool:
        """Whether more calls may begin though none ends first: when a limit rises, a pause or a minute is over."""
        return self._active < self.slots and (self._active < self.limit.limit or self.limit.reason == "starting")

    async def call(self, endpoint: str, body: bytes, timeout_s: float) -> Answer:
        """Call the upstream; limits learn from how that goes."""
        started_at = self._clock()
        cohort = self.limit.begin(started_at)
        # Whose it is makes no difference: one that runs alone, beside these bounds, may have come before its line.
        is_charged = bool(self._tickets)
        ticket = self._tickets.popleft() if is_charged else self._rate.begin(started_at)
        self._charged += is_charged
        try:
            answer = await self._upstream.call(endpoint, body, timeout_s)
        except BaseException:
            now = self._clock()
            self.limit.end(cohort, started_at, now, Outcome.DROPPED)
            self._rate.end(ticket, None, now)
            raise
        finally:
            self._charged -= is_charged
        now = self._clock()
        self.limit.end(cohort, started_at, now, self._outcome(answer, timeout_s))
        # A server that says nothing of tokens must not get any number of them.
        self._rate.end(ticket, answer.usage.total_tokens or None if answer.trouble is Trouble.NONE else None, now)
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
        reports = [Report(state.in_flight, state.bound) for state in states]
        self.limit.set_workers(place, reports, self._next_slots)
        self.room.set_slots(self._held_slots())

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
        slots = self._held_slots()
        self.room.set_slots(slots)
        bound_by = self.limit.reason if self.limit.limit < self.slots else "ceiling"
        if slots < min(self.slots, self.limit.prospect):
            bound_by = "rate"
        return LaneState(slots, self.lines_per_s, self.paused, bound_by, *self.limit.report)

    def has_sped_up(self, after_s: float, times: float) -> bool:
        """Return whether lines have become so many times as fast as was measured last, at least so long ago."""
        at, answered = self._pace_from
        passed_s = self._clock() - at
        return passed_s >= after_s and self.answered - answered > times * self.lines_per_s * passed_s

    def _held_slots(self) -> int:
        by_rate = self.limit.in_flight + max(_AHEAD_S * self._rate.calls_per_s(), 1.0)
        return int(min(self.slots, self.limit.prospect, by_rate))

    def _outcome(self, answer: Answer, timeout_s: float) -> Outcome:
        if answer.trouble is Trouble.NONE:
            return Outcome.ANSWERED
        # What fails fast, or for the line's own sake, says nothing of the upstream's room.
        is_late = answer.error == REQUEST_TIMEOUT and timeout_s >= self._call_timeout_s
        return Outcome.REFUSED if is_late or answer.status in _REFUSALS else Outcome.DROPPED
