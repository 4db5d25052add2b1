"""When a call to a model is repeated, after how long, and when a line's tries are used up."""

from enum import Enum
from typing import NamedTuple

from app.domain.verdict import ANSWERED_A_CHECK, Mark, Seen, Verdict, compare


class Trouble(Enum):
    """The obstacles to a call, sorted by remedy."""

    NONE = "none"
    # The model answered, and would give the same answer again.
    FINAL = "final"
    # This call failed: the line ends after a few more tries, once the line is shown to be at fault.
    FLAKY = "flaky"
    # The upstream takes no calls now: the line ends only after many tries over a long time.
    AWAY = "away"
    # The upstream turns the caller away, or is not at the URL: hardly ever the fault of one line.
    DENIED = "denied"
    # No call was made: the circuit breaker is open, or the line was no longer this worker's to send.
    WITHHELD = "withheld"


class Tries(NamedTuple):
    """The calls made for a line so far, and the calls that count against the line."""

    calls: int = 0
    # Failures shown to be the line's own.
    faults: int = 0
    # Failures that other lines or a check call show to be no outage, and when the first happened.
    counted: int = 0
    counted_since: float = 0.0
    # The last failure, and whether it was judged.
    failed: Mark | None = None
    is_judged: bool = False
    last: Trouble = Trouble.NONE
    # Other lines were answered when this line failed; nearly all other lines were answered.
    is_suspect: bool = False
    is_convicted: bool = False
    # The last failure is the line's fault, as other lines or a check call show.
    is_proven: bool = False
    # No other line showed whose fault the last failure is: a check call comes before the next call.
    is_unknown: bool = False
    # Check calls for this line that the server did not answer.
    unanswered_checks: int = 0
    # Answered and failed calls of other lines, over the spans with any answer.
    others_answered: int = 0
    others_failed: int = 0

    @property
    def by_chance(self) -> float:
        """The probability of as many failures by chance, at the failure rate of other lines."""
        others = self.others_answered + self.others_failed
        return (self.others_failed / others) ** self.counted if others else 0.0

    def after(self, trouble: Trouble, failed: Mark | None, *, is_excused: bool = False) -> "Tries":
        """Return the count with one more call; `is_excused` marks a failure that never counts."""
        return self._replace(
            calls=self.calls + 1, failed=failed, is_judged=is_excused, is_proven=False, is_unknown=False, last=trouble
        )

    def judged(self, now: float, *, has_check: bool) -> "Tries":
        """Return the count with the last failure judged by other lines' calls since; `now` is monotonic.

        A failure without another line to compare with counts only where no check call can tell.
        """
        if self.failed is None or self.is_judged:
            return self
        seen = compare(self.failed)
        if seen.verdict is Verdict.UNKNOWN and has_check:
            return self._unknown(seen)
        return self._with(seen, now)

    def suspected(self) -> "Tries":
        """Return the count after a failed probe; the server answered a check call right after."""
        return self._unknown(ANSWERED_A_CHECK)

    def checked(self, now: float) -> "Tries":
        """Return the count after a failed call; the server answered a check call right before."""
        others_answered = self.others_answered + 1
        return self._count(now, is_fault=self.is_convicted)._replace(
            is_suspect=True, is_proven=True, is_unknown=True, others_answered=others_answered
        )

    def forgotten(self) -> "Tries":
        """Return the count without the failures so far: the server doesn't answer a check call."""
        return self._replace(faults=0, counted=0, unanswered_checks=self.unanswered_checks + 1)

    def with_verdict(self, verdict: Verdict, now: float) -> "Tries":
        """Return the count with this verdict on the last failure."""
        return self._with(Seen(verdict), now)

    def _unknown(self, seen: Seen) -> "Tries":
        return self._replace(
            is_judged=True,
            is_unknown=True,
            is_suspect=self.is_suspect or seen.answered > 0,
            others_answered=self.others_answered + seen.answered,
            others_failed=self.others_failed + seen.failed,
        )

    def _with(self, seen: Seen, now: float) -> "Tries":
        verdict = seen.verdict
        told = self._replace(
            is_judged=True,
            others_answered=self.others_answered + seen.answered,
            others_failed=self.others_failed + seen.failed,
        )
        if verdict is Verdict.SERVER:
            return told
        is_line = verdict is Verdict.LINE
        # Without other lines to compare with, a line that was convicted before is still at fault.
        is_fault = is_line or (verdict is Verdict.UNKNOWN and self.is_convicted)
        return told._count(now, is_fault=is_fault)._replace(
            is_suspect=self.is_suspect or verdict is not Verdict.UNKNOWN or seen.answered > 0,
            is_convicted=self.is_convicted or is_line,
            is_proven=is_line,
        )

    def _count(self, now: float, *, is_fault: bool) -> "Tries":
        return self._replace(
            is_judged=True,
            faults=self.faults + (is_fault and self.last is not Trouble.AWAY),
            counted=self.counted + 1,
            counted_since=self.counted_since if self.counted else now,
        )


NO_TRIES = Tries()

# With a server that fails at random, about ten lines in a million would be lost.
_CHANCE = 1e-5

# The server refuses the caller, the key or the balance, whatever the request is.
_DENIED_STATUSES = frozenset({401, 402, 403, 407})
# The path serves no models, unless the answer is an error of the server's own that names the missing thing.
_PLACE_STATUSES = frozenset({404, 405, 410})
TOO_MANY_REQUESTS = 429
_AWAY_STATUSES = frozenset({TOO_MANY_REQUESTS, 502, 503, 504, 529})
_FLAKY_STATUSES = frozenset({408, 409, 425})


def trouble_of(status: int, *, names_fault: bool = True) -> Trouble:
    """Return the meaning of an HTTP status for a line.

    Args:
        status: the HTTP status.
        names_fault: whether the body is a JSON error in a model server's form.
    """
    if status in _AWAY_STATUSES:
        return Trouble.AWAY
    if status in _FLAKY_STATUSES or 500 <= status < 600:
        return Trouble.FLAKY
    if 200 <= status < 300:
        return Trouble.NONE
    if status in _DENIED_STATUSES or (status in _PLACE_STATUSES and not names_fault):
        return Trouble.DENIED
    return Trouble.FINAL


class RetryPolicy(NamedTuple):
    """How many tries a line has, and exponential back-off with full jitter between tries."""

    # Calls that may fail by the line's own fault before the failure becomes the line's result.
    max_tries: int = 5
    # For a line that always finds the upstream away while other lines are answered: the tries and the span must both be
    # used up. An overloaded server may refuse a line twenty times by chance, and no overload that lets calls through
    # lasts this long.
    max_away_tries: int = 20
    away_span_s: float = 900.0
    # A key that works for other lines meanwhile is not being rotated.
    max_denied_tries: int = 3
    base_s: float = 0.5
    cap_s: float = 60.0
    # The cap on `Retry-After`: the upstream may be up sooner than it says.
    retry_after_cap_s: float = 600.0
    # If the next failure would end a line, the call is made soon.
    last_look_s: float = 1.0
    # If the server serves other lines, but many calls fail or no line is left to compare with, a line is called again
    # within `doubt_look_s`, for at least `doubt_span_s`: longer than a key rotation or the restart of a small server.
    doubt_span_s: float = 20.0
    doubt_look_s: float = 2.0
    # Lines that are told from an outage by check calls alone need no more than their tries in that span.
    checked_look_s: float = 8.0

    def is_used_up(self, tries: Tries, now: float, *, has_check: bool) -> bool:
        """Return whether a line's tries are used up: the last failure is the line's result if it is the line's fault.

        `has_check` says whether a check call can tell a server at fault from a line at fault. Without a check call, a
        line that no other line can be compared with waits for a server that is away.
        """
        span_s = now - tries.counted_since
        is_comparable = has_check or tries.is_suspect
        if tries.last is not Trouble.AWAY:
            if tries.faults >= self._most(tries):
                return True
            has_had_its_tries = is_comparable and tries.counted >= self._most(tries)
            if has_had_its_tries and span_s >= self.doubt_span_s and tries.by_chance <= _CHANCE:
                return True
        is_spent = tries.counted >= self.max_away_tries and span_s >= self.away_span_s
        may_end = is_comparable or tries.last is Trouble.FLAKY
        return is_spent and may_end and tries.by_chance <= _CHANCE

    def _most(self, tries: Tries) -> int:
        return min(self.max_denied_tries, self.max_tries) if tries.last is Trouble.DENIED else self.max_tries

    def delay_s(self, tries: int, retry_after_s: float | None, random: float) -> float:
        """Return the seconds to wait after `tries` calls; `random` is uniform in [0, 1).

        `Retry-After` is the shortest wait; jitter on top keeps lines from returning together.
        """
        jitter = random * min(self.cap_s, self.base_s * 2.0 ** min(tries, 30))
        if retry_after_s is None or retry_after_s <= 0:
            return jitter
        return min(retry_after_s, self.retry_after_cap_s) + jitter
