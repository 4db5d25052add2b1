"""Whose fault a failure is, by where the circuit stood then and stands now."""

import pytest

from app.domain.circuit import Circuit
from app.domain.sign import Change, Sign
from app.domain.verdict import Mark, Seen, Verdict, compare, mark_failure


class Calls:
    """Calls of other lines, one after the other."""

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.now = 0.0

    def end(
        self,
        *signs: Sign,
        is_suspect: bool = False,
        is_convicted: bool = False,
        is_repeat: bool = False,
        is_check: bool = False,
    ) -> None:
        for sign in signs:
            self.now += 1.0
            term, is_probe = self.circuit.term, self.circuit.begin(self.now)
            self.circuit.end(
                sign,
                self.now,
                began_at=self.now,
                term=term,
                is_probe=is_probe,
                random=0.0,
                error="503",
                is_suspect=is_suspect,
                is_convicted=is_convicted,
                is_repeat=is_repeat,
                is_check=is_check,
            )

    def fail(self) -> Mark:
        """Have the line in question fail."""
        self.end(Sign.FAILING)
        return mark_failure(self.circuit, self.now)


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

    assert compare(failed).verdict is verdict


def test_what_others_met_before_says_nothing() -> None:
    calls = Calls()
    calls.end(*[GOOD] * 100)

    assert compare(calls.fail()).verdict is Verdict.UNKNOWN


def test_a_failure_of_an_outage_is_the_servers_also_once_the_outage_is_over() -> None:
    calls = Calls()
    failed = calls.fail()
    calls.end(BAD, BAD)
    assert calls.circuit.is_open
    while_away = compare(failed).verdict

    calls.end(*[GOOD] * 100)

    assert not calls.circuit.is_open
    assert (while_away, compare(failed).verdict) == (Verdict.SERVER, Verdict.SERVER)


def test_failures_of_suspects_say_nothing_where_nobody_is_answered() -> None:
    calls = Calls()
    failed = calls.fail()

    calls.end(*[BAD] * 10, is_suspect=True)

    assert compare(failed).verdict is Verdict.UNKNOWN


def test_failures_of_the_convicted_speak_for_no_line() -> None:
    calls = Calls()
    failed = calls.fail()

    calls.end(GOOD)
    calls.end(*[BAD] * 10, is_suspect=True, is_convicted=True)

    assert compare(failed).verdict is Verdict.LINE


def test_lines_that_fail_again_do_not_excuse_each_other() -> None:
    calls = Calls()
    failed = calls.fail()

    calls.end(*[BAD] * 2, is_repeat=True)

    assert compare(failed).verdict is Verdict.UNKNOWN


def test_answers_to_calls_that_began_before_a_failure_do_not_convict_its_line() -> None:
    calls = Calls()
    calls.end(GOOD)
    term, is_probe = calls.circuit.term, calls.circuit.begin(calls.now)
    failed = calls.fail()

    calls.circuit.end(GOOD, calls.now + 1, began_at=calls.now - 1, term=term, is_probe=is_probe, random=0.0)

    assert compare(failed) == Seen(Verdict.UNKNOWN, answered=1)


def open_circuit() -> Calls:
    calls = Calls()
    calls.end(*[BAD] * 3)
    assert calls.circuit.is_open
    return calls


def fail_probe(calls: Calls) -> None:
    calls.now = calls.circuit.due_at
    calls.end(BAD)


def test_after_an_answered_check_call_the_next_line_probes_at_once() -> None:
    calls = open_circuit()
    fail_probe(calls)
    assert not calls.circuit.may_begin(calls.now)

    change = calls.circuit.clear(calls.circuit.term, calls.now)

    assert change is None
    assert calls.circuit.is_open
    assert calls.circuit.may_begin(calls.now)


def test_three_failed_probes_with_answered_check_calls_close_the_circuit_breaker() -> None:
    calls = open_circuit()
    changes = []
    for _ in range(3):
        fail_probe(calls)
        changes.append(calls.circuit.clear(calls.circuit.term, calls.now))

    assert changes == [None, None, Change.CLOSED]
    assert not calls.circuit.is_open


def test_lines_that_failed_before_check_calls_were_answered_are_suspects() -> None:
    calls = Calls()
    before = calls.fail()
    calls.end(BAD, BAD)
    while_open = mark_failure(calls.circuit, calls.now)
    for _ in range(3):
        fail_probe(calls)
        calls.circuit.clear(calls.circuit.term, calls.now)
    after = calls.fail()

    assert [compare(mark) for mark in (before, while_open)] == [Seen(Verdict.UNKNOWN, answered=1)] * 2
    assert compare(after) == Seen(Verdict.UNKNOWN)


def test_failures_of_an_outage_stay_the_servers_if_check_calls_end_a_later_outage() -> None:
    calls = Calls()
    of_outage = calls.fail()
    calls.end(BAD, BAD)
    calls.now = calls.circuit.due_at
    calls.end(GOOD)
    calls.end(BAD, BAD, BAD)
    for _ in range(3):
        fail_probe(calls)
        calls.circuit.clear(calls.circuit.term, calls.now)

    assert compare(of_outage) == Seen(Verdict.SERVER)


def test_check_calls_are_no_calls_of_other_lines() -> None:
    calls = Calls()
    failed = calls.fail()

    calls.end(GOOD, is_check=True)

    assert compare(failed) == Seen(Verdict.UNKNOWN)


def test_failed_check_calls_open_the_circuit_breaker() -> None:
    calls = Calls()

    calls.end(*[BAD] * 3, is_check=True)

    assert calls.circuit.is_open


def test_a_check_call_that_followed_a_probe_of_an_earlier_outage_says_nothing_of_this_outage() -> None:
    calls = open_circuit()
    early = calls.circuit.term
    calls.now = calls.circuit.due_at
    calls.end(GOOD)
    calls.end(*[BAD] * 3)

    changes = [calls.circuit.clear(early, calls.now) for _ in range(3)]

    assert changes == [None] * 3
    assert calls.circuit.is_open


def test_a_probe_still_in_flight_when_check_calls_close_the_circuit_breaker_delays_no_later_probe() -> None:
    calls = open_circuit()
    fail_probe(calls)
    calls.circuit.begin(calls.circuit.due_at)
    for _ in range(3):
        calls.circuit.clear(calls.circuit.term, calls.now)
    calls.end(*[BAD] * 3)

    assert not calls.circuit.is_probing
    assert calls.circuit.wait_s(calls.now) <= 1.0
