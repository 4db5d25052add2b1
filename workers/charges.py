"""What the lines of one upstream are charged of its rates: each when it begins, and its call settles it."""

from collections import deque
from typing import NamedTuple

from app.domain.rates import RateLimit, Ticket


class Charge(NamedTuple):
    """What a call in flight was charged, and whether that was when a line began."""

    ticket: Ticket
    is_of_line: bool


class Charges:
    """Charges lines and calls of one lane; instants are seconds of any one clock."""

    def __init__(self, rate: RateLimit) -> None:
        self._rate = rate
        # What lines were charged whose call is still to come; and calls in flight that took one of those.
        self._tickets: deque[Ticket] = deque()
        self._calls = 0

    def begin(self, now: float) -> bool:
        """Return whether one more line may begin now, and charge it if so."""
        if self._rate.wait_s(now) > 0:
            return False
        # Charged here and not with its call, or a whole lot would begin by one look at the rate.
        self._tickets.append(self._rate.begin(now))
        return True

    def end(self, active: int, now: float) -> None:
        """Take back what a line was charged that ended without a call; so many others have begun and not ended."""
        # One that ran alone may have taken it.
        while self._tickets and len(self._tickets) > active - self._calls:
            self._rate.give_back(self._tickets.popleft(), now)

    def begin_call(self, now: float) -> Charge:
        """Return what a call is charged that begins now; it is to be handed to `end_call`."""
        # Whose it is makes no difference: one that runs alone, beside these bounds, may have come before its line.
        charge = Charge(self._tickets.popleft(), True) if self._tickets else Charge(self._rate.begin(now), False)
        self._calls += charge.is_of_line
        return charge

    def take_back(self, charge: Charge, now: float) -> None:
        """Take back the charge of a call that was not made."""
        self._calls -= charge.is_of_line
        self._rate.give_back(charge.ticket, now)

    def end_call(self, charge: Charge, tokens_used: int | None, now: float) -> None:
        """Correct the charge of a call that ended; `tokens_used` is None where nobody says."""
        self._calls -= charge.is_of_line
        self._rate.end(charge.ticket, tokens_used, now)
