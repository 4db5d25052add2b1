"""The circuit breaker of one server, or of one model of a server, as one process sees it.

          nobody is there, or the calls of several lines fail in a row
closed ───────────────────────────────────────────────────────────────► open ──┐ the probe fails:
   ▲                                                                    │  ▲   │ the pause doubles
   └────────────────────── the probe is answered ───────────────────────┘  └───┘

While a circuit is open, lines wait for it and use no try. A probe is the call of one line (half-open).
"""

from app.domain.sign import FAILURES, THERE, Change, Sign

# A server that is overloaded or restarts behind its proxy refuses a call now and then. Failures of fewer lines than
# this, in a row and with no answer among them, may be chance.
FAILURES_IN_A_ROW = 3
# Longer than a restart of a small server takes, and short enough that nobody misses one that was back at once.
FIRST_PAUSE_S = 1.0
# A model takes minutes to load, so asking more often finds nothing sooner; asking less often leaves a machine idle.
LAST_PAUSE_S = 30.0
# Up to this part of a pause is left out, at random: workers that saw the same outage must not come back as one.
_JITTER = 0.25
# A line that may be at fault leaves the probe to other lines for this long.
_LATER_S = 3.0
# After two probes in a row that failed, the lines of the batch of the last probe may all be at fault: the next probe is
# left to another batch. One probe may fail by chance, and a batch alone should not wait longer for that.
_PROBES_FOR_A_BATCH = 2
# A server that answered another line this long before a call began was well at that time.
_WELL_S = 30.0


class Circuit:
    """Counts calls, and opens when they fail in a row.

    Instants are seconds of any one clock that never steps back.
    """

    __slots__ = (
        "_answered_at",
        "_answered_from",
        "_failed_probes",
        "_in_a_row",
        "_opened_at",
        "_pause_s",
        "_probed_at",
        "_probed_for",
        "answered",
        "due_at",
        "failed",
        "failing_since",
        "in_flight",
        "is_open",
        "last_error",
        "limited",
        "term",
    )

    def __init__(self) -> None:
        self.is_open = False
        # Ends when the circuit opens and when it closes: what a call of an earlier term met is over.
        self.term = 0
        self.in_flight = 0
        # While it is open: from when on the next probe may go.
        self.due_at = 0.0
        # Calls that were answered, calls that failed, and calls among these that the server had no room for, ever
        # since. Failures of lines that were convicted are left out, and of the last number failures of suspects too.
        self.answered = 0
        self.failed = 0
        self.limited = 0
        self._answered_at = float("-inf")
        # When the latest call began that was answered.
        self._answered_from = float("-inf")
        # None while there is nothing to complain of.
        self.last_error: str | None = None
        # When the failures in a row began; None while the last call was answered.
        self.failing_since: float | None = None
        self._in_a_row = 0
        self._probed_at: float | None = None
        # The batch of the last probe, and the probes that failed since the circuit opened.
        self._probed_for = ""
        self._failed_probes = 0
        self._pause_s = 0.0
        self._opened_at = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether calls fail in a row by now that may be no chance."""
        return self.is_open or self._in_a_row >= FAILURES_IN_A_ROW

    @property
    def is_probing(self) -> bool:
        """Whether a probe is out."""
        return self._probed_at is not None

    def may_begin(self, now: float, *, batch_id: str = "", is_suspect: bool = False) -> bool:
        """Return whether a call may begin, be it as a probe.

        A suspect line probes where no other line does, and so does a line of a batch whose probes failed.
        """
        return not self.is_open or now >= self.due_at + self._later_s(batch_id, is_suspect)

    def wait_s(self, now: float, *, batch_id: str = "", is_suspect: bool = False) -> float:
        """Return after how long a line that waits for an open circuit is to look again."""
        if self._probed_at is not None:
            # The probe may end at any moment; the longer it takes, the longer it is likely to take.
            return min(max(now - self._probed_at, FIRST_PAUSE_S), LAST_PAUSE_S)
        return max(self.due_at + self._later_s(batch_id, is_suspect) - now, 0.0)

    def begin(self, now: float, batch_id: str = "") -> bool:
        """Count a call of this batch that begins; return whether it is a probe."""
        self.in_flight += 1
        if self.is_open:
            self._probed_at, self._probed_for = now, batch_id
            # One that hangs is followed by another, so that a hanging line keeps no server away from the others.
            self.due_at = now + LAST_PAUSE_S
        return self.is_open

    def end_well(self, term: int, now: float, began_at: float) -> bool:
        """Count a call that was answered, where it changes nothing else, as most do; return whether that is so."""
        if self.is_open or term != self.term or self.failing_since is not None:
            return False
        self.in_flight -= 1
        self._count_answer(now, began_at)
        return True

    def end(
        self,
        sign: Sign,
        now: float,
        *,
        began_at: float,
        term: int,
        is_probe: bool,
        random: float,
        asked_s: float = 0.0,
        error: str | None = None,
        is_suspect: bool = False,
        is_convicted: bool = False,
        is_repeat: bool = False,
    ) -> Change | None:
        """Count a call that ended, and return what that changes.

        Args:
            sign: what the call says.
            now: the present.
            began_at: the instant at which the call began.
            term: the circuit's as the call began.
            is_probe: what `begin` returned.
            random: uniform in [0, 1).
            asked_s: how long the server asks to be left alone; it is asked again sooner than after the longest pause.
            error: what the call met.
            is_suspect: whether others were answered as the line failed before, so that its failures open nothing.
            is_convicted: whether nearly all others were, so that its failures say nothing of the server.
            is_repeat: whether the line has failed in this term before.
        """
        self.in_flight -= 1
        if sign is Sign.ANSWERED:
            self._count_answer(now, began_at)
        elif sign in FAILURES and not is_convicted:
            self.failed += 1
            self.limited += sign is Sign.LIMITED and not is_suspect
        if term != self.term:
            if self.is_open and sign is Sign.ANSWERED:
                # A call from before the failures was answered after all: it was no outage, or it is over.
                self.due_at = min(self.due_at, now)
            return None
        if self.is_open:
            return self._probed(sign, now, random, asked_s, error, is_suspect=is_suspect) if is_probe else None
        if sign in THERE:
            self._end_row()
        elif sign in (Sign.FAILING, Sign.GONE) and not is_suspect:
            self._in_a_row += not is_repeat
            self.last_error = error
            if self.failing_since is None:
                self.failing_since = now
            # As many as are in flight: those may all be answered where a few lines in a row can't be.
            if sign is Sign.GONE or self._in_a_row >= max(FAILURES_IN_A_ROW, self.in_flight):
                self._open(now, random, asked_s)
                return Change.OPENED
        return None

    def open_for_s(self, now: float) -> float:
        """Return how long ago the circuit opened."""
        return now - self._opened_at

    def was_well(self, began_at: float) -> bool:
        """Return whether another line was answered shortly before a call that began then."""
        return self._answered_at >= began_at - _WELL_S

    def has_answered_since(self, failed_at: float) -> bool:
        """Return whether a call was answered that began since then."""
        return self._answered_from >= failed_at

    def _count_answer(self, now: float, began_at: float) -> None:
        self.answered += 1
        self._answered_at = now
        self._answered_from = max(self._answered_from, began_at)

    def _later_s(self, batch_id: str, is_suspect: bool) -> float:
        is_of_failed = self._failed_probes >= _PROBES_FOR_A_BATCH and batch_id == self._probed_for
        return _LATER_S if is_suspect or (is_of_failed and batch_id) else 0.0

    def _end_row(self) -> None:
        self._in_a_row = 0
        self.failing_since = self.last_error = None

    def _open(self, now: float, random: float, asked_s: float) -> None:
        self.is_open = True
        self.term += 1
        self._opened_at = now
        self._failed_probes = 0
        self._pause_s = FIRST_PAUSE_S
        self._pause(now, random, asked_s)

    def _pause(self, now: float, random: float, asked_s: float) -> None:
        self.due_at = now + max(self._pause_s * (1 - _JITTER * random), min(asked_s, LAST_PAUSE_S))

    def _probed(
        self, sign: Sign, now: float, random: float, asked_s: float, error: str | None, *, is_suspect: bool
    ) -> Change | None:
        self._probed_at = None
        if sign in THERE:
            self.is_open = False
            self.term += 1
            self._end_row()
            return Change.CLOSED
        if sign is Sign.BROKEN_OFF:
            self.due_at = now
            return None
        if sign is Sign.NOTHING or is_suspect:
            # It says nothing of the server: the call of another line is the next probe, after no longer a pause.
            self.due_at = now + FIRST_PAUSE_S
            return None
        self.last_error = error
        self._failed_probes += 1
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        self._pause(now, random, asked_s)
        return None
