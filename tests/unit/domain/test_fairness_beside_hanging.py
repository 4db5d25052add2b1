"""Shares of batches beside lines that hang."""

import pytest

from app.domain.batch import RunningTotal
from tests.unit.domain.shares import batch, lines_of, share


@pytest.mark.parametrize("hanging", [RunningTotal(1, 70), RunningTotal(30, 70)])
def test_lines_that_hang_keep_no_batch_of_their_tenant_from_going_on_a_turn_at_a_time(hanging: RunningTotal) -> None:
    going = batch("going", "one", is_new=False, is_young=False)
    full = batch("full", "other", outstanding=60)

    hangs, has_some = batch("hangs", "one", outstanding=70), going._replace(lines_outstanding=1)

    _, in_others = share(going, full, others={"one": hanging}, is_slow=True)
    _, in_one = share(going, hangs, full, is_slow=True)
    _, while_it_has_some = share(has_some, hangs, full, is_slow=True)

    assert lines_of(in_others) == lines_of(in_one) == {"going": 3}
    assert lines_of(while_it_has_some) == {}


def test_a_tenant_whose_lines_hang_has_at_most_twice_its_share() -> None:
    idle = [batch(f"idle_{number}", "one", is_new=False, is_young=False) for number in range(100)]

    hangs, full = batch("hangs", "one", outstanding=70), batch("full", "other", outstanding=60)
    _, turns = share(hangs, *idle, full, is_slow=True)

    assert 45 <= sum(lines_of(turns).values()) <= 53


def test_a_batch_that_holds_most_of_the_window_keeps_none_from_going_on_beside_fast_answers() -> None:
    going = batch("going", is_new=False, is_young=False)

    _, turns = share(batch("hangs", outstanding=100), batch("fast", outstanding=1, lines_waiting=0), going)

    assert lines_of(turns) == {"going": 3}


def test_in_a_slow_window_a_batch_with_nothing_outstanding_gets_a_turn() -> None:
    last = batch("last", lines_waiting=1, is_new=False, is_young=False)
    running = [batch("a", outstanding=60), batch("b", outstanding=60), last]

    assert lines_of(share(*running, is_slow=True)[1]) == {"last": 1}
    assert share(*running)[1] == []
