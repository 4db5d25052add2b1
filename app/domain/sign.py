"""The evidence that the end of a call gives a circuit breaker, and the resulting change of state."""

from enum import Enum


class Sign(Enum):
    """Evidence from the end of a call about the server behind the circuit breaker."""

    ANSWERED = "answered"
    # The server is there and refused a single request; whether it serves other lines stays open.
    REFUSING = "refusing"
    # The server is there and had no room for the call: a failure for comparison that never opens the circuit breaker.
    LIMITED = "limited"
    FAILING = "failing"
    # No server can be reached. A line can't cause that.
    GONE = "gone"
    # The failure concerns this call alone, as far as wylon can tell.
    NOTHING = "nothing"
    # The call was broken off, or never made.
    BROKEN_OFF = "broken off"


FAILURES = (Sign.LIMITED, Sign.FAILING, Sign.GONE)
THERE = (Sign.ANSWERED, Sign.REFUSING, Sign.LIMITED)


class Change(Enum):
    """A change of the circuit breaker's state at the end of a call."""

    OPENED = "opened"
    CLOSED = "closed"
