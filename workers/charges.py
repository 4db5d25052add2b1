"""Charges an upstream's rate limit for a line when the line begins; the line's call settles the charge."""

from collections import deque
from typing import NamedTuple

from app.domain.rates import RateLimit, Ticket


class Charge(NamedTuple):
    """The charge of a call in flight, and whether the charge was made when a line began."""

    ticket: Ticket
    is_of_line: bool


class Charges:
    """Charges the lines and calls of one lane; instants are seconds of a single clock."""

    def __init__(self, rate: RateLimit) -> None:
        self._rate = rate
        # Tickets of lines that began and have not called yet; and the number of calls in flight using a line's ticket.
        self._tickets: deque[Ticket] = deque()
        self._calls = 0

    def begin(self, now: float) -> bool:
        """Return whether one more line may begin now; if yes, charge the line."""
        if self._rate.wait_s(now) > 0:
            return False
        # Charge the line now and not at its call: otherwise a single look at the rate would let a whole lot begin.
        self._tickets.append(self._rate.begin(now))
        return True

    def end(self, active: int, now: float) -> None:
        """Take back the charge of a line that ended without a call; `active` lines have begun and not ended."""
        # A quarantined line may have used the ticket.
        while self._tickets and len(self._tickets) > active - self._calls:
            self._rate.give_back(self._tickets.popleft(), now)

    def begin_call(self, now: float) -> Charge:
        """Return the charge of a call that begins now, to be passed to `end_call`."""
        # Any ticket will do: a quarantined line bypasses the bounds and may have used another line's ticket.
        charge = Charge(self._tickets.popleft(), True) if self._tickets else Charge(self._rate.begin(now), False)
        self._calls += charge.is_of_line
        return charge

    def take_back(self, charge: Charge, now: float) -> None:
        """Take back the charge of a call that was never made."""
        self._calls -= charge.is_of_line
        self._rate.give_back(charge.ticket, now)

    def end_call(self, charge: Charge, tokens_used: int | None, now: float) -> None:
        """Correct the charge of a call that ended; `tokens_used` is None if unknown."""
        self._calls -= charge.is_of_line
        self._rate.end(charge.ticket, tokens_used, now)
