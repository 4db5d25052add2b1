"""Token buckets: the calls and tokens a minute that an upstream allows, and when one process may begin a call.

A limit is a token bucket: time fills the balance, at the limit's pace and up to a burst, and calls are charged to the
balance. A call may begin while there is no debt, however much the call is charged; the next call waits until the debt
is paid. So a call for more tokens than a burst begins too, and the charges in any span of time never exceed

    the limit for the span + the burst + one call

The tokens of a call are known at the end. So a call is first charged the recent mean, and at the end the difference.
The deviation of calls in flight from the mean comes on top of the bound.
"""

import math
from typing import NamedTuple

# Calls begin in clumps: the window is refilled each second, a loop stands still for a moment, timers are late. The
# burst makes up for a pause, and in any minute at most a twentieth more than the limit begins.
BURST_S = 3.0
# The charge of a call before any call has ended: a short question with its answer.
FIRST_ESTIMATE_TOKENS = 1_000.0
# The estimate follows about this many calls: few enough to follow from one batch to the next, and enough that a few
# long answers do not move the estimate much.
_MEAN_OVER_CALLS = 100
# Timers are no finer, and a wait lost in the rounding of `now` would never end.
_LEAST_WAIT_S = 0.001
_MINUTE_S = 60.0


class Ticket(NamedTuple):
    """The charge of a call at the beginning."""

    tokens: float


class RateLimit:
    """One process's share of an upstream's rate limits; instants are seconds of a clock that never steps back.

    Args:
        requests_per_minute: of all processes together; None for no limit.
        tokens_per_minute: of all processes together; None for no limit.

    Raises:
        ValueError: a limit is not a number above zero.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._requests = None if requests_per_minute is None else _Balance(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Balance(tokens_per_minute)
        self._balances = [balance for balance in (self._requests, self._tokens) if balance is not None]
        self._ended = 0
        # The tokens charged to the next call at its beginning.
        self.estimate_tokens = FIRST_ESTIMATE_TOKENS

    @property
    def has_bounds(self) -> bool:
        """Whether a limit exists."""
        return bool(self._balances)

    def set_share(self, part: float, now: float) -> None:
        """Set this process's share of the limits from now on; before the first call the share is the whole.

        Debts stay, and unused balance stays as far as the burst of the new share holds it.

        Raises:
            ValueError: `part` is not above 0 and at most 1.
        """
        if not 0 < part <= 1:
            raise ValueError(f"A share is a part of the limit, above 0 and at most 1, not {part}.")
        for balance in self._balances:
            balance.set_share(part, now)

    def wait_s(self, now: float) -> float:
        """Return 0.0 if a call may begin now, else the seconds until a call may begin, at the present share."""
        return max((balance.wait_s(now) for balance in self._balances), default=0.0)

    def begin(self, now: float) -> Ticket:
        """Charge a call that begins now, after `wait_s` allowed it; hand the returned ticket to `end`."""
        if self._requests is not None:
            self._requests.charge(1.0, now)
        if self._tokens is not None:
            self._tokens.charge(self.estimate_tokens, now)
        return Ticket(self.estimate_tokens)

    def calls_per_s(self) -> float:
        """Return the sustained calls a second, at the recent tokens a call; inf without limits."""
        pace = math.inf
        if self._requests is not None:
            pace = self._requests.per_s
        if self._tokens is not None:
            pace = min(pace, self._tokens.per_s / max(self.estimate_tokens, 1.0))
        return pace

    def give_back(self, ticket: Ticket, now: float) -> None:
        """Refund the charge of a call that was never made."""
        if self._requests is not None:
            self._requests.charge(-1.0, now)
        if self._tokens is not None:
            self._tokens.charge(-ticket.tokens, now)

    def end(self, ticket: Ticket, tokens_used: int | None, now: float) -> None:
        """Correct the charge of a call that ended.

        Args:
            ticket: the ticket from `begin`; use a ticket only once.
            tokens_used: None if unknown, as after a call without an answer: the charge stays.
            now: the present instant.
        """
        if tokens_used is None:
            return
        self._ended += 1
        self.estimate_tokens += (tokens_used - self.estimate_tokens) / min(self._ended, _MEAN_OVER_CALLS)
        if self._tokens is not None:
            self._tokens.charge(tokens_used - ticket.tokens, now)


class _Balance:
    """The balance of one limit; a balance below zero is a debt."""

    def __init__(self, per_minute: float) -> None:
        if not 0 < per_minute < math.inf:
            raise ValueError(f"A limit is a number above 0, or there is none; not {per_minute}.")
        self._full_rate = self._rate = per_minute / _MINUTE_S
        # The burst is empty at the start: a process that ends and starts again and again must not add a burst each
        # time.
        self._amount = 0.0
        self._seen_at = -math.inf

    @property
    def per_s(self) -> float:
        return self._rate

    def set_share(self, part: float, now: float) -> None:
        rate = self._full_rate * part
        if rate == self._rate:
            return
        # The time passed so far counts at the old pace.
        self.pass_time(now)
        self._rate = rate
        self._amount = min(self._amount, self._rate * BURST_S)

    def wait_s(self, now: float) -> float:
        self.pass_time(now)
        return max(-self._amount / self._rate, _LEAST_WAIT_S) if self._amount < 0 else 0.0

    def charge(self, amount: float, now: float) -> None:
        """Take an amount; a negative amount is a refund."""
        self.pass_time(now)
        self._amount -= amount

    def pass_time(self, now: float) -> None:
        """Count the time since the last look; an instant before the last look adds nothing."""
        if now <= self._seen_at:
            return
        # The first look begins the count.
        passed_s = now - self._seen_at if self._seen_at > -math.inf else 0.0
        self._seen_at = now
        gained, burst = self._rate * passed_s, self._rate * BURST_S
        if self._amount <= burst:
            self._amount = min(self._amount + gained, burst)
        else:
            # The excess is refunds from calls that took less than the charge. The excess may be used now; kept for
            # hours, it would become an unexpected burst.
            self._amount = max(self._amount - gained, burst)
