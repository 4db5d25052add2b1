"""Whose fault a failure is, by where the circuit stood then and stands now."""

import pytest

from app.domain.circuit import Circuit
from app.domain.sign import Sign
from app.domain.verdict import Mark, Seen, Verdict, compare, mark_failure


class Calls:
    """Calls of other lines, one after the other."""

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.now = 0.0

    def end(self, *signs: Sign, is_suspect: bool = False, is_convicted: bool = False, is_repeat: bool = False) -> None:
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
            )

    def fail(self) -> Mark:
        """Have the line in question fail."""
        self.end(Sign.FAILING)
        return mark_failure(self.circuit, self.now, self.now)


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


@pytest.mark.parametrize(("after_s", "was_well"), [(1.0, True), (29.0, True), (60.0, False)])
def test_an_answer_shortly_before_a_call_shows_that_the_server_was_well(after_s: float, was_well: bool) -> None:
    calls = Calls()
    calls.end(GOOD)
    calls.now += after_s

    assert calls.fail().was_well is was_well


def test_after_two_failed_probes_the_next_probe_is_left_to_another_batch_for_a_moment() -> None:
    circuit = Circuit()
    circuit.begin(0.0, "bad")
    circuit.end(Sign.GONE, 0.0, began_at=0.0, term=0, is_probe=False, random=0.0, error="503")
    for _ in range(2):
        assert circuit.may_begin(circuit.due_at, batch_id="bad")
        now, is_probe = circuit.due_at, circuit.begin(circuit.due_at, "bad")
        circuit.end(BAD, now, began_at=now, term=circuit.term, is_probe=is_probe, random=0.0, error="503")

    now = circuit.due_at

    assert not circuit.may_begin(now, batch_id="bad")
    assert circuit.may_begin(now, batch_id="good")
    assert circuit.wait_s(now, batch_id="good") == 0.0
    # A batch that is alone waits a moment longer, and no more.
    assert circuit.may_begin(now + circuit.wait_s(now, batch_id="bad"), batch_id="bad")
    assert circuit.wait_s(now, batch_id="bad") <= 3.0
