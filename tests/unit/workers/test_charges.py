"""What lines are charged that begin, wait for their call, and end."""

from app.domain.rates import RateLimit
from workers.charges import Charges


def test_a_line_that_ends_without_a_call_takes_back_its_own_charge_only_after_calls_that_have_ended() -> None:
    charges = Charges(RateLimit(60.0, None))
    assert charges.begin(0.0)
    charges.end_call(charges.begin_call(0.0), None, 0.0)
    charges.end(0, 0.0)
    begun = begin_all(charges, 100.0)

    charges.end(begun - 1, 100.0)

    assert begin_all(charges, 100.0) == 1


def test_a_line_that_ends_without_a_call_takes_back_its_own_charge_only_after_calls_that_were_not_made() -> None:
    charges = Charges(RateLimit(60.0, None))
    assert charges.begin(0.0)
    charges.take_back(charges.begin_call(0.0), 0.0)
    charges.end(0, 0.0)
    begun = begin_all(charges, 100.0)

    charges.end(begun - 1, 100.0)

    assert begin_all(charges, 100.0) == 1


def begin_all(charges: Charges, now: float) -> int:
    count = 0
    while charges.begin(now):
        count += 1
    return count
