"""The circuit breaker of a server, or of one model of a server, as one process sees it.

          nobody is there, or the calls of several lines fail in a row
closed ───────────────────────────────────────────────────────────────► open ──┐ the probe fails:
   ▲                                                                    │  ▲   │ the pause doubles
   └────────────────────── the probe is answered ───────────────────────┘  └───┘

While the circuit breaker is open, lines wait and use no try. A probe is the call of one line (half-open). A check call,
the smallest request for the same model, follows a failed probe: if the server answers, the line is a suspect, and the
next line probes at once. Three such probes close the circuit breaker.
"""

from app.domain.sign import FAILURES, THERE, Change, Sign

# A server under overload, or during a restart behind its proxy, refuses a call now and then. Failures of fewer lines
# than this, in a row and with no answer in between, may be chance.
FAILURES_IN_A_ROW = 3
# Longer than the restart of a small server, and short enough that nobody misses a server that was back at once.
FIRST_PAUSE_S = 1.0
# A model takes minutes to load, so more frequent probes find no server sooner; fewer probes leave a machine idle.
LAST_PAUSE_S = 30.0
# Jitter: up to this part of a pause is left out, to keep workers with a common outage from coming back together.
_JITTER = 0.25


class Circuit:
    """Counts calls, and opens after failures in a row.

    Instants are seconds of a clock that never steps back.
    """

    __slots__ = (
        "_answered_from",
        "_cleared_probes",
        "_in_a_row",
        "_opened_at",
        "_pause_s",
        "_probed_at",
        "_terms_ended_by_checks",
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
        # A term ends when the circuit breaker opens and when it closes: calls of an earlier term no longer count.
        self.term = 0
        self.in_flight = 0
        # While the circuit breaker is open: the earliest instant of the next probe.
        self.due_at = 0.0
        # Totals of lines' calls since the start: answered, failed, and failed for which the server had no room.
        # Failures of convicted lines are left out of `failed` and `limited`, failures of suspects out of `limited`.
        self.answered = 0
        self.failed = 0
        self.limited = 0
        # When the latest answered call began.
        self._answered_from = float("-inf")
        # None while the last call was answered.
        self.last_error: str | None = None
        # When the failures in a row began; None while the last call was answered.
        self.failing_since: float | None = None
        self._in_a_row = 0
        self._probed_at: float | None = None
        # Failed probes followed by an answered check call, since the circuit breaker opened.
        self._cleared_probes = 0
        # The first and the last term of a series of terms that check calls ended; None before the first series.
        self._terms_ended_by_checks: tuple[int, int] | None = None
        self._pause_s = 0.0
        self._opened_at = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether the failures in a row are too many for chance."""
        return self.is_open or self._in_a_row >= FAILURES_IN_A_ROW

    @property
    def is_probing(self) -> bool:
        """Whether a probe is in flight."""
        return self._probed_at is not None

    def may_begin(self, now: float) -> bool:
        """Return whether a call may begin, perhaps as a probe."""
        return not self.is_open or now >= self.due_at

    def wait_s(self, now: float) -> float:
        """Return the seconds after which a line that waits for an open circuit breaker looks again."""
        if self._probed_at is not None:
            # The probe may end at any moment; a probe that has taken long is likely to take longer.
            return min(max(now - self._probed_at, FIRST_PAUSE_S), LAST_PAUSE_S)
        return max(self.due_at - now, 0.0)

    def begin(self, now: float) -> bool:
        """Count a call that begins; return whether the call is a probe."""
        self.in_flight += 1
        if self.is_open:
            self._probed_at = now
            # After a hanging probe, the next probe may go: a hanging line must not keep other lines from a server.
            self.due_at = now + LAST_PAUSE_S
        return self.is_open

    def end_well(self, term: int, began_at: float) -> bool:
        """Count an answered call that changes nothing else, as most do; return whether the call was counted."""
        if self.is_open or term != self.term or self.failing_since is not None:
            return False
        self.in_flight -= 1
        self._count_answer(began_at)
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
        is_check: bool = False,
    ) -> Change | None:
        """Count a call that ended; return the change of state.

        Args:
            sign: the evidence from the call.
            now: the present instant.
            began_at: the instant when the call began.
            term: the circuit breaker's term when the call began.
            is_probe: the value that `begin` returned.
            random: uniform in [0, 1).
            asked_s: the seconds for which the server asks to be left alone; the longest pause is the cap.
            error: the error of the call.
            is_suspect: whether other lines were answered when the line failed before; a suspect's failures open
                nothing.
            is_convicted: whether nearly all other lines were answered; the line's failures say nothing of the server.
            is_repeat: whether the line has already failed in this term.
            is_check: whether the call is a check call, which is left out of the totals.
        """
        self.in_flight -= 1
        if is_check:
            # Check calls of many bad lines must not make the few answers of other lines look like most.
            pass
        elif sign is Sign.ANSWERED:
            self._count_answer(began_at)
        elif sign in FAILURES and not is_convicted:
            self.failed += 1
            self.limited += sign is Sign.LIMITED and not is_suspect
        if term != self.term:
            if self.is_open and sign is Sign.ANSWERED:
                # A call from before the failures was answered after all: there was no outage, or the outage is over.
                self.due_at = min(self.due_at, now)
            return None
        if self.is_open:
            return self._probed(sign, now, random, asked_s, error) if is_probe else None
        if sign in THERE:
            self._end_row()
        elif sign in (Sign.FAILING, Sign.GONE) and not is_suspect:
            self._in_a_row += not is_repeat
            self.last_error = error
            if self.failing_since is None:
                self.failing_since = now
            # As many failures as calls in flight: the calls in flight may all be answered while a few lines in a row
            # can't be.
            if sign is Sign.GONE or self._in_a_row >= max(FAILURES_IN_A_ROW, self.in_flight):
                self._open(now, random, asked_s)
                return Change.OPENED
        return None

    def open_for_s(self, now: float) -> float:
        """Return the seconds since the circuit breaker opened."""
        return now - self._opened_at

    def has_answered_since(self, failed_at: float) -> bool:
        """Return whether the server answered a call that began at `failed_at` or later."""
        return self._answered_from >= failed_at

    def clear(self, term: int, now: float) -> Change | None:
        """Count a check call that was answered right after a probe of `term` failed; return the change of state."""
        if term != self.term or not self.is_open:
            return None
        self._cleared_probes += 1
        if self._cleared_probes >= FAILURES_IN_A_ROW:
            return self._end_by_checks()
        self._pause_s = FIRST_PAUSE_S
        self.due_at = now
        return None

    def is_ended_by_checks(self, term: int) -> bool:
        """Return whether answered check calls ended the term: the lines that failed in the term are suspects."""
        terms = self._terms_ended_by_checks
        return terms is not None and terms[0] <= term <= terms[1]

    def _end_by_checks(self) -> Change:
        # A term in which lines failed, and the term of the probes. A series goes on if no other term came in between.
        first, last = self.term - 1, self.term
        if self._terms_ended_by_checks is not None and self._terms_ended_by_checks[1] == first - 1:
            first = self._terms_ended_by_checks[0]
        self._terms_ended_by_checks = (first, last)
        return self._close()

    def _count_answer(self, began_at: float) -> None:
        self.answered += 1
        if began_at > self._answered_from:
            self._answered_from = began_at

    def _end_row(self) -> None:
        self._in_a_row = 0
        self.failing_since = self.last_error = None

    def _open(self, now: float, random: float, asked_s: float) -> None:
        self.is_open = True
        self.term += 1
        self._opened_at = now
        self._cleared_probes = 0
        self._pause_s = FIRST_PAUSE_S
        if self._terms_ended_by_checks is not None and self._terms_ended_by_checks[1] == self.term - 2:
            # The lines that failed before were bad, and so may these lines be: find out at once.
            self.due_at = now
            return
        self._pause(now, random, asked_s)

    def _close(self) -> Change:
        self.is_open = False
        # A probe may still be in flight, and ends in a later term.
        self._probed_at = None
        self.term += 1
        self._end_row()
        return Change.CLOSED

    def _pause(self, now: float, random: float, asked_s: float) -> None:
        self.due_at = now + max(self._pause_s * (1 - _JITTER * random), min(asked_s, LAST_PAUSE_S))

    def _probed(self, sign: Sign, now: float, random: float, asked_s: float, error: str | None) -> Change | None:
        self._probed_at = None
        if sign in THERE:
            return self._close()
        if sign is Sign.BROKEN_OFF:
            self.due_at = now
            return None
        if sign is Sign.NOTHING:
            # The probe says nothing of the server: a call for a different line probes next, after no longer a pause.
            self.due_at = now + FIRST_PAUSE_S
            return None
        self.last_error = error
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        self._pause(now, random, asked_s)
        return None
