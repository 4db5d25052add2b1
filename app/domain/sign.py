"""The sign that the end of a call gives to a circuit, and the change that it makes."""

from enum import Enum


class Sign(Enum):
    """What the end of a call says of its circuit."""

    ANSWERED = "answered"
    # Something is there and refused this one request, which does not show that others are served.
    REFUSING = "refusing"
    # Something is there, and had no room for this call: a failure to compare with, which opens nothing.
    LIMITED = "limited"
    FAILING = "failing"
    # Nobody is there, which can't be the doing of any line.
    GONE = "gone"
    # It was this call alone, as far as one can tell.
    NOTHING = "nothing"
    # It was broken off, or never made.
    BROKEN_OFF = "broken off"


FAILURES = (Sign.LIMITED, Sign.FAILING, Sign.GONE)
THERE = (Sign.ANSWERED, Sign.REFUSING, Sign.LIMITED)


class Change(Enum):
    """What the end of a call changed."""

    OPENED = "opened"
    CLOSED = "closed"
