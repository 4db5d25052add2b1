"""Whose fault the failure of a line is: of its server, or of the line.

A line that fails is judged by the answers that its circuit gives other lines between this failure and the line's next
call: an outage that has just begun can't be told from a fault of the line any sooner.
"""

from enum import Enum
from typing import NamedTuple

from app.domain.circuit import Circuit

# A line is taken for the fault once so many answers to others stand against each failure of others. With a quarter of
# all calls failing at random, five calls of one line in a row fail once in a thousand lines.
_ANSWERS_A_FAILURE = 4


class Verdict(Enum):
    """Whose fault a failure was."""

    SERVER = "server"
    LINE = "line"
    # Some other lines were answered, and too many failed for the line to be convicted soon.
    MIXED = "mixed"
    # No other line was called since, or one or two lines were that failed as well.
    UNKNOWN = "unknown"


class Mark(NamedTuple):
    """Where a circuit stood when a line failed; `compare` tells what changed since."""

    circuit: Circuit
    term: int
    answered: int
    failed: int
    limited: int
    # Another line was answered shortly before the call that failed.
    was_well: bool
    failed_at: float

    def is_counted_by(self, circuit: Circuit) -> bool:
        """Return whether this circuit has counted the failure in its present term."""
        return self.circuit is circuit and self.term == circuit.term


def mark_failure(circuit: Circuit, began_at: float, failed_at: float) -> Mark:
    """Return where a circuit stands that has counted the failure of a line, whose call began and failed then."""
    was_well = circuit.was_well(began_at)
    return Mark(circuit, circuit.term, circuit.answered, circuit.failed, circuit.limited, was_well, failed_at)


class Seen(NamedTuple):
    """Whose fault a failure was, and how many calls of other lines were answered and failed since."""

    verdict: Verdict
    answered: int = 0
    failed: int = 0


def compare(before: Mark) -> Seen:
    """Return whose fault the failure was that was marked, by what other lines met since."""
    circuit = before.circuit
    if circuit.is_open or circuit.term != before.term:
        return Seen(Verdict.SERVER)
    answered, failed = circuit.answered - before.answered, circuit.failed - before.failed
    if not answered:
        # Fewer lines than that may all be bad, as one may be; and so may be suspects, who may be all that is left.
        is_server = circuit.is_failing or circuit.limited > before.limited
        return Seen(Verdict.SERVER if is_server else Verdict.UNKNOWN)
    if failed > answered:
        return Seen(Verdict.SERVER, answered, failed)
    if answered < _ANSWERS_A_FAILURE * failed:
        return Seen(Verdict.MIXED, answered, failed)
    # Calls that began earlier may have been answered by a server that takes no call any more.
    is_line = circuit.has_answered_since(before.failed_at)
    return Seen(Verdict.LINE if is_line else Verdict.UNKNOWN, answered, failed)
