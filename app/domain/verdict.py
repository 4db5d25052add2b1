"""Whether the server or the line is at fault when a line fails.

The verdict on a failed line rests on the circuit breaker's answers to other lines between the failure and the line's
next call: any sooner, a new outage can't be told from a fault of the line.
"""

from enum import Enum
from typing import NamedTuple

from app.domain.circuit import Circuit

# The line is at fault once the other lines have this many answers for every failure. If a quarter of the calls fail at
# random, five calls of a line in a row fail for one line in a thousand.
_ANSWERS_A_FAILURE = 4


class Verdict(Enum):
    """Where the fault for a failure lies."""

    SERVER = "server"
    LINE = "line"
    # Other lines were answered, but too many failed to convict the line soon.
    MIXED = "mixed"
    # No other line was called since, or only one or two lines that failed as well.
    UNKNOWN = "unknown"


class Mark(NamedTuple):
    """The state of a circuit breaker when a line failed; `compare` finds the changes since."""

    circuit: Circuit
    term: int
    answered: int
    failed: int
    limited: int
    failed_at: float

    def is_counted_by(self, circuit: Circuit) -> bool:
        """Return whether `circuit` has counted the failure in its present term."""
        return self.circuit is circuit and self.term == circuit.term


def mark_failure(circuit: Circuit, failed_at: float) -> Mark:
    """Return the state of a circuit breaker that has counted a line's failure, and the instant of the failure."""
    return Mark(circuit, circuit.term, circuit.answered, circuit.failed, circuit.limited, failed_at)


class Seen(NamedTuple):
    """The verdict on a failure, and how many calls of other lines were answered and failed since."""

    verdict: Verdict
    answered: int = 0
    failed: int = 0


# A check call was answered after the failure. The server may have come back just then: the line is a suspect, no more.
ANSWERED_A_CHECK = Seen(Verdict.UNKNOWN, answered=1)


def compare(before: Mark) -> Seen:
    """Return the verdict on a marked failure, from the calls of other lines since."""
    circuit = before.circuit
    if circuit.is_open or circuit.term != before.term:
        return ANSWERED_A_CHECK if circuit.is_ended_by_checks(before.term) else Seen(Verdict.SERVER)
    answered, failed = circuit.answered - before.answered, circuit.failed - before.failed
    if not answered:
        # Fewer failing lines than `is_failing` needs may all be bad. So may suspects, and perhaps only suspects are
        # left.
        is_server = circuit.is_failing or circuit.limited > before.limited
        return Seen(Verdict.SERVER if is_server else Verdict.UNKNOWN)
    if failed > answered:
        return Seen(Verdict.SERVER, answered, failed)
    if answered < _ANSWERS_A_FAILURE * failed:
        return Seen(Verdict.MIXED, answered, failed)
    # An answered call may have begun before the failure, at a server that now takes no calls.
    is_line = circuit.has_answered_since(before.failed_at)
    return Seen(Verdict.LINE if is_line else Verdict.UNKNOWN, answered, failed)
