"""How many calls a minute, and how many tokens, an upstream allows: what one process may begin of them, and when.

Each limit is a balance that time fills, at the limit's pace and up to a burst, and that calls are charged to. A call
may begin while there is no debt, however much it is charged; the debt is waited out after it. So a call that takes more
tokens than a burst holds begins too, and in no span of time are more charged than

    the limit for the span + the burst + one call

Tokens are known when a call ends, so at first a call is charged what calls took lately, and the difference when it
ends. What calls in flight differ from that by comes on top of the bound.
"""

import math
from typing import NamedTuple

# Calls begin in clumps: the window is filled again each second, a loop stands still for a moment, timers are late.
# What such a pause left unused may be made up for, and in any minute at most a twentieth more than the limit begins.
BURST_S = 3.0
# What a call is charged before any has ended: a short question with its answer.
FIRST_ESTIMATE_TOKENS = 1_000.0
# The estimate follows about so many calls: few enough to follow from one batch to the next, and enough that a few
# long answers do not move it much.
_MEAN_OVER_CALLS = 100
# Timers are no finer, and a wait that is lost in the rounding of `now` would never end.
_LEAST_WAIT_S = 0.001
_MINUTE_S = 60.0


class Ticket(NamedTuple):
    """What a call was charged when it began."""

    tokens: float


class RateLimit:
    """What one process may begin of what an upstream allows; instants are seconds of a clock that never goes back.

    Args:
        requests_per_minute: of all processes together; None for no limit.
        tokens_per_minute: the same.

    Raises:
        ValueError: a limit is no number above zero.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._requests = None if requests_per_minute is None else _Balance(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Balance(tokens_per_minute)
        self._balances = [balance for balance in (self._requests, self._tokens) if balance is not None]
        self._ended = 0
        # The tokens that the next call is charged when it begins.
        self.estimate_tokens = FIRST_ESTIMATE_TOKENS

    @property
    def has_bounds(self) -> bool:
        """Whether there is a limit."""
        return bool(self._balances)

    def set_share(self, part: float, now: float) -> None:
        """Set the part of the limits that is this process's from now on; all of them before the first time.

        Debts stay, and so does what is left to use as far as the burst of the new part holds it.

        Raises:
            ValueError: `part` is not above zero and at most one.
        """
        if not 0 < part <= 1:
            raise ValueError(f"A share is a part of the limit, above 0 and at most 1, not {part}.")
        for balance in self._balances:
            balance.set_share(part, now)

    def wait_s(self, now: float) -> float:
        """Return 0.0 where a call may begin now, else how long it is until one may, if the share stays."""
        return max((balance.wait_s(now) for balance in self._balances), default=0.0)

    def begin(self, now: float) -> Ticket:
        """Charge a call that begins now, which `wait_s` said it may; the ticket is to be handed to `end`."""
        if self._requests is not None:
            self._requests.charge(1.0, now)
        if self._tokens is not None:
            self._tokens.charge(self.estimate_tokens, now)
        return Ticket(self.estimate_tokens)

    def calls_per_s(self) -> float:
        """Return how many calls may begin each second for long, if they take as much as lately; inf without limits."""
        pace = math.inf
        if self._requests is not None:
            pace = self._requests.per_s
        if self._tokens is not None:
            pace = min(pace, self._tokens.per_s / max(self.estimate_tokens, 1.0))
        return pace

    def give_back(self, ticket: Ticket, now: float) -> None:
        """Take back the charge of a call that was never made."""
        if self._requests is not None:
            self._requests.charge(-1.0, now)
        if self._tokens is not None:
            self._tokens.charge(-ticket.tokens, now)

    def end(self, ticket: Ticket, tokens_used: int | None, now: float) -> None:
        """Correct the charge of a call that ended.

        Args:
            ticket: what `begin` returned; once only.
            tokens_used: None where nobody says, as after a call without an answer: what it was charged stays.
            now: the present.
        """
        if tokens_used is None:
            return
        self._ended += 1
        self.estimate_tokens += (tokens_used - self.estimate_tokens) / min(self._ended, _MEAN_OVER_CALLS)
        if self._tokens is not None:
            self._tokens.charge(tokens_used - ticket.tokens, now)


class _Balance:
    """What may be used of one limit: below zero it is a debt."""

    def __init__(self, per_minute: float) -> None:
        if not 0 < per_minute < math.inf:
            raise ValueError(f"A limit is a number above 0, or there is none; not {per_minute}.")
        self._full_rate = self._rate = per_minute / _MINUTE_S
        # At the start there is no burst: a process that ends and starts again and again has none to add each time.
        self._amount = 0.0
        self._seen_at = -math.inf

    @property
    def per_s(self) -> float:
        return self._rate

    def set_share(self, part: float, now: float) -> None:
        rate = self._full_rate * part
        if rate == self._rate:
            return
        # What has passed was gained at the old pace.
        self.pass_time(now)
        self._rate = rate
        self._amount = min(self._amount, self._rate * BURST_S)

    def wait_s(self, now: float) -> float:
        self.pass_time(now)
        return max(-self._amount / self._rate, _LEAST_WAIT_S) if self._amount < 0 else 0.0

    def charge(self, amount: float, now: float) -> None:
        """Take an amount, or give it back where it is below zero."""
        self.pass_time(now)
        self._amount -= amount

    def pass_time(self, now: float) -> None:
        """Count the time since the last look; an instant before that one counts for nothing."""
        if now <= self._seen_at:
            return
        # The first look begins the count.
        passed_s = now - self._seen_at if self._seen_at > -math.inf else 0.0
        self._seen_at = now
        gained, burst = self._rate * passed_s, self._rate * BURST_S
        if self._amount <= burst:
            self._amount = min(self._amount + gained, burst)
        else:
            # Given back by calls that took less than they were charged. It may be used now; kept for hours it would
            # come as a burst when nobody expects one.
            self._amount = max(self._amount - gained, burst)
