"""Whether one of several servers is sent calls: it is left alone when it fails, and tried again one call at a time.

         fails: gone at once, failing three times in a row
healthy ──────────────────────────────────────────────────► left alone ──┐ the probe fails:
   ▲                                                            │  ▲      │ the pause doubles
   └───────────────── the probe is answered ────────────────────┘  └──────┘
"""

from enum import Enum

# A server that is overloaded or restarts behind its proxy refuses a call now and then: so many in a row, and no answer
# among them, are no chance any more.
FAILURES_IN_A_ROW = 3
# Longer than a restart of a small server takes, and short enough that nobody misses one that was back at once.
FIRST_PAUSE_S = 1.0
# A model takes minutes to load, so asking more often finds nothing sooner; asking less often leaves a machine idle.
LAST_PAUSE_S = 30.0
# Up to this part of a pause is left out, at random: workers that saw the same outage must not come back as one.
_JITTER = 0.25


class Sign(Enum):
    """What the end of a call says of its server."""

    ANSWERED = "answered"
    # It answered that it can't: it may be failing, have had no room for this call, or lack this call's model.
    REFUSING = "refusing"
    # It may be failing, or have had no room for this call, and did not say.
    FAILING = "failing"
    # Nobody is there.
    GONE = "gone"
    # It was this call alone, as far as one can tell.
    NOTHING = "nothing"


_ANSWERS = (Sign.ANSWERED, Sign.REFUSING)


class Health:
    """The health of one server, as one process sees it; instants are seconds of any one clock."""

    __slots__ = (
        "_left_at",
        "_pause_s",
        "due_at",
        "failures",
        "is_left_alone",
        "is_probing",
        "is_there",
        "last_error",
        "term",
    )

    def __init__(self) -> None:
        self.is_left_alone = False
        # While it is left alone: whether what it said last is an answer, be it a refusal.
        self.is_there = True
        # Whether the one call is out that a server that is left alone gets.
        self.is_probing = False
        # From when on that call may go.
        self.due_at = 0.0
        # Those in a row.
        self.failures = 0
        # None while there is nothing to complain of.
        self.last_error: str | None = None
        # Ends when it is left alone and when it is back: what a call of an earlier term ran into is over.
        self.term = 0
        self._pause_s = 0.0
        self._left_at = 0.0

    def may_probe(self, now: float) -> bool:
        """Return whether a server that is left alone may get its one call."""
        return not self.is_probing and now >= self.due_at

    def wait_s(self, now: float) -> float:
        """Return how long it is to the next probe; a short while where one is out, which may end at any moment."""
        return FIRST_PAUSE_S if self.is_probing else max(self.due_at - now, 0.0)

    def call_ended(self, sign: Sign, error: str | None) -> bool:
        """Learn from a call that was no probe, of this term; return whether the server is to be left alone now."""
        if self.is_left_alone:
            # The probe alone says when it is back. What is silent now may be away for all calls.
            self.is_there = sign in _ANSWERS
            return False
        if sign is Sign.ANSWERED:
            self.failures = 0
            self.last_error = None
        elif sign is not Sign.NOTHING:
            self.failures += 1
            self.last_error = error
            return sign is Sign.GONE or self.failures >= FAILURES_IN_A_ROW
        return False

    def leave_alone(self, sign: Sign, now: float, random: float, asked_s: float = 0.0) -> float:
        """Begin a pause, twice as long as the last one of this outage, and return its length.

        Args:
            sign: what the call said that it is left alone for.
            now: the present.
            random: uniform in [0, 1).
            asked_s: how long the server asks to be left alone; it is asked again sooner than after the longest pause.
        """
        if not self.is_left_alone:
            self.is_left_alone = True
            self.term += 1
            self._left_at = now
            self._pause_s = FIRST_PAUSE_S
        else:
            self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        self.is_there = sign in _ANSWERS
        self.is_probing = False
        pause_s = max(self._pause_s * (1 - _JITTER * random), min(asked_s, LAST_PAUSE_S))
        self.due_at = now + pause_s
        return pause_s

    def probe_again(self, now: float) -> None:
        """Have another call as the probe: the last one said nothing of the server, and lengthens no pause."""
        self.is_probing = False
        # Each such probe is a try of its line: they must not follow each other at once.
        self.due_at = now + FIRST_PAUSE_S

    def come_back(self, now: float) -> float:
        """Take the server as healthy; return how long it was left alone."""
        self.is_left_alone = self.is_probing = False
        self.term += 1
        self.failures = 0
        self.last_error = None
        return now - self._left_at
