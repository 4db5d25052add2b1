"""Whose fault a failure is, by where the circuit stood then and stands now."""

import pytest

from app.domain.circuit import Circuit, Mark, Sign, Verdict, judge


class Calls:
    """Calls of other lines, one after the other."""

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.now = 0.0

    def end(self, *signs: Sign, is_suspect: bool = False, is_convicted: bool = False) -> None:
        for sign in signs:
            self.now += 1.0
            term, is_probe = self.circuit.term, self.circuit.begin(self.now)
            self.circuit.end(
                sign,
                self.now,
                term=term,
                is_probe=is_probe,
                random=0.0,
                error="503",
                is_suspect=is_suspect,
                is_convicted=is_convicted,
            )

    def fail(self) -> Mark:
        """Have the line in question fail."""
        self.end(Sign.FAILING)
        return self.circuit.mark()


GOOD, BAD = Sign.ANSWERED, Sign.FAILING


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ([], Verdict.UNKNOWN),
        ([GOOD], Verdict.LINE),
        ([GOOD] * 8 + [BAD] * 2, Verdict.LINE),
        ([GOOD] * 7 + [BAD] * 2, Verdict.MIXED),
        ([GOOD, BAD], Verdict.MIXED),
        ([GOOD, BAD, BAD], Verdict.SERVER),
        ([BAD], Verdict.UNKNOWN),
        ([BAD, BAD], Verdict.SERVER),
        ([Sign.REFUSING, Sign.NOTHING], Verdict.UNKNOWN),
        ([Sign.LIMITED, Sign.LIMITED, GOOD], Verdict.SERVER),
    ],
)
def test_a_failure_is_judged_by_what_others_met_since(others: list[Sign], verdict: Verdict) -> None:
    calls = Calls()
    calls.end(GOOD)
    failed = calls.fail()

    calls.end(*others)

    assert judge(failed) is verdict


def test_what_others_met_before_says_nothing() -> None:
    calls = Calls()
    calls.end(*[GOOD] * 100)

    assert judge(calls.fail()) is Verdict.UNKNOWN


def test_a_failure_of_an_outage_is_the_servers_also_once_the_outage_is_over() -> None:
    calls = Calls()
    failed = calls.fail()
    calls.end(BAD, BAD)
    assert calls.circuit.is_open
    while_away = judge(failed)

    calls.end(*[GOOD] * 100)

    assert not calls.circuit.is_open
    assert (while_away, judge(failed)) == (Verdict.SERVER, Verdict.SERVER)


def test_failures_of_suspects_say_nothing_where_nobody_is_answered() -> None:
    calls = Calls()
    failed = calls.fail()

    calls.end(*[BAD] * 10, is_suspect=True)

    assert judge(failed) is Verdict.UNKNOWN


def test_failures_of_the_convicted_speak_for_no_line() -> None:
    calls = Calls()
    failed = calls.fail()

    calls.end(GOOD)
    calls.end(*[BAD] * 10, is_suspect=True, is_convicted=True)

    assert judge(failed) is Verdict.LINE
