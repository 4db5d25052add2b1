"""When a call to a model is made again, after how long, and when a line has had its tries."""

from enum import Enum
from typing import NamedTuple

from app.domain.verdict import Mark, Seen, Verdict, compare


class Trouble(Enum):
    """What stands in the way of a call, sorted by what helps."""

    NONE = "none"
    # The model answered, and would answer the same again.
    FINAL = "final"
    # This call went wrong: the line ends after a few more tries, once it is shown that the line is the fault.
    FLAKY = "flaky"
    # The upstream takes no call now: the line ends only after many tries over a long time.
    AWAY = "away"
    # The upstream turns the caller away, or is not where the URL says: hardly ever the fault of one line.
    DENIED = "denied"
    # No call was made: the upstream is left alone, or the line was no longer this worker's to send.
    WITHHELD = "withheld"


class Tries(NamedTuple):
    """The calls made for a line so far, and those of them that count against the line."""

    calls: int = 0
    # Failures that were shown to be the line's own.
    faults: int = 0
    # Failures that are not the server's, as far as one can tell, and when the first of them was.
    counted: int = 0
    counted_since: float = 0.0
    # The last failure, and whether it was judged.
    failed: Mark | None = None
    is_judged: bool = False
    last: Trouble = Trouble.NONE
    # Others were answered as this line failed; and nearly all others were.
    is_suspect: bool = False
    is_convicted: bool = False
    # The server answered another line shortly before this line's first failure that others can't explain.
    was_well: bool = False
    # Calls of other lines that were answered and that failed, over the spans in which some were answered.
    others_answered: int = 0
    others_failed: int = 0

    @property
    def others_are_served(self) -> bool:
        """Whether the server is known to have answered other lines at the time of this line's failures."""
        return self.is_suspect or self.was_well

    @property
    def by_chance(self) -> float:
        """How likely a line is to fail so often by chance, where others fail as often as they do."""
        others = self.others_answered + self.others_failed
        return (self.others_failed / others) ** self.counted if others else 0.0

    def after(self, trouble: Trouble, failed: Mark | None, *, is_excused: bool = False) -> "Tries":
        """Return the count with one call more; `is_excused` is a failure that counts in no case."""
        return self._replace(calls=self.calls + 1, failed=failed, is_judged=is_excused, last=trouble)

    def judged(self, now: float) -> "Tries":
        """Return the count with the last failure judged by what other lines met since; `now` is monotonic."""
        if self.failed is None or self.is_judged:
            return self
        seen = compare(self.failed)
        # Only a line that nothing is known of yet: one that waited for long must not recall an answer before that.
        was_well = self.failed.was_well if not self.counted else self.was_well
        return self._replace(is_judged=True, was_well=was_well)._with(seen, now)

    def with_verdict(self, verdict: Verdict, now: float) -> "Tries":
        """Return the count with this verdict on the last failure."""
        return self._with(Seen(verdict), now)

    def _with(self, seen: Seen, now: float) -> "Tries":
        verdict = seen.verdict
        answered, failed = self.others_answered + seen.answered, self.others_failed + seen.failed
        if verdict is Verdict.SERVER:
            return self._replace(others_answered=answered, others_failed=failed)
        is_suspect = self.is_suspect or verdict is not Verdict.UNKNOWN or seen.answered > 0
        if verdict is Verdict.UNKNOWN and self.last is not Trouble.FLAKY and not (is_suspect or self.was_well):
            # A server that is away may be so for hours, and a single line must not end for that.
            return self
        # With nobody else to compare with, a line that was convicted before is still the fault.
        is_convicted = verdict is Verdict.LINE or (verdict is Verdict.UNKNOWN and self.is_convicted)
        return self._replace(
            faults=self.faults + (is_convicted and self.last is not Trouble.AWAY),
            counted=self.counted + 1,
            counted_since=self.counted_since if self.counted else now,
            is_suspect=is_suspect,
            is_convicted=self.is_convicted or is_convicted,
            others_answered=answered,
            others_failed=failed,
        )


NO_TRIES = Tries()

# Among a million lines of a server that fails at random some ten would be lost.
_CHANCE = 1e-5

# The caller, its key or its balance is refused, whatever the request is.
_DENIED_STATUSES = frozenset({401, 402, 403, 407})
# Nothing that serves models is at this path, unless the answer says in an error of its own what was not found.
_PLACE_STATUSES = frozenset({404, 405, 410})
TOO_MANY_REQUESTS = 429
_AWAY_STATUSES = frozenset({TOO_MANY_REQUESTS, 502, 503, 504, 529})
_FLAKY_STATUSES = frozenset({408, 409, 425})


def trouble_of(status: int, *, names_fault: bool = True) -> Trouble:
    """Return what an HTTP status means for the line that got it.

    Args:
        status: the status.
        names_fault: whether the body is a JSON error, as a model server writes it.
    """
    if status in _AWAY_STATUSES:
        return Trouble.AWAY
    if status in _FLAKY_STATUSES or status >= 500:
        return Trouble.FLAKY
    if 200 <= status < 300:
        return Trouble.NONE
    if status in _DENIED_STATUSES or (status in _PLACE_STATUSES and not names_fault):
        return Trouble.DENIED
    return Trouble.FINAL


class RetryPolicy(NamedTuple):
    """How many tries a line has, and exponential back-off with full jitter between them."""

    # Calls that may end in trouble of the line's own before that becomes its result.
    max_tries: int = 5
    # Of a line that the upstream is always away for, while others are answered: both have to be reached. An overloaded
    # server may refuse one line twenty times by chance, and no overload that lets others through lasts so long.
    max_away_tries: int = 20
    away_span_s: float = 900.0
    # A key that others are answered with at the same time is not being rotated.
    max_denied_tries: int = 3
    base_s: float = 0.5
    cap_s: float = 60.0
    # An upstream that asks for more is asked again sooner than it says: it may be up by then.
    retry_after_cap_s: float = 600.0
    # A line whose next failure would be its last one learns soon whether it was.
    last_look_s: float = 1.0
    # Where the server serves other lines, but many of them fail too or none is left to compare with, a line is called
    # again within `doubt_look_s` and for `doubt_span_s` at least: longer than a key is rotated or a small server
    # restarts.
    doubt_span_s: float = 20.0
    doubt_look_s: float = 2.0

    def is_used_up(self, tries: Tries, now: float) -> bool:
        """Return whether a line has had its tries, so that what it met last is its result."""
        span_s = now - tries.counted_since
        if tries.last is not Trouble.AWAY:
            if tries.faults >= self._most(tries):
                return True
            has_had_its_tries = tries.others_are_served and tries.counted >= self._most(tries)
            if has_had_its_tries and span_s >= self.doubt_span_s and tries.by_chance <= _CHANCE:
                return True
        is_spent = tries.counted >= self.max_away_tries and span_s >= self.away_span_s
        return is_spent and tries.by_chance <= _CHANCE

    def _most(self, tries: Tries) -> int:
        return min(self.max_denied_tries, self.max_tries) if tries.last is Trouble.DENIED else self.max_tries

    def delay_s(self, tries: int, retry_after_s: float | None, random: float) -> float:
        """Return the seconds to wait after `tries` calls; `random` is uniform in [0, 1).

        A `Retry-After` is the least that is waited; jitter goes on top so that lines don't return as one.
        """
        jitter = random * min(self.cap_s, self.base_s * 2.0 ** min(tries, 30))
        if retry_after_s is None or retry_after_s <= 0:
            return jitter
        return min(retry_after_s, self.retry_after_cap_s) + jitter
