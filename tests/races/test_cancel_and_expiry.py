"""A caller cancels at the moment at which the window elapses: one of the two counts."""

from functools import partial

import pytest

from app.domain.errors import StateConflict
from app.domain.lifecycle import Status
from tests.races.interleaving import COMMIT, at_once, is_sqlite, meanwhile
from tests.races.sides import Side

ROUNDS = 20


@pytest.mark.parametrize("is_cancel_first", [True, False])
def test_of_two_that_read_the_same_status_one_moves_it(one: Side, other: Side, is_cancel_first: bool) -> None:
    one.add_running()
    first, second = (one.cancel, other.expire) if is_cancel_first else (one.expire, other.cancel)

    outcomes = meanwhile(one, first, "UPDATE batches", other, second)

    # SQLite lets the first end. In PostgreSQL the second overtakes it, and the first sees that.
    winner, loser = outcomes[:2] if is_sqlite(one) else outcomes[1::-1]
    assert isinstance(loser, StateConflict)
    assert one.batch() == winner


@pytest.mark.parametrize("is_cancel_first", [True, False])
def test_the_second_waits_for_the_first_and_comes_too_late(one: Side, other: Side, is_cancel_first: bool) -> None:
    one.add_running()
    first, second = (one.cancel, other.expire) if is_cancel_first else (one.expire, other.cancel)

    moved, refused, has_waited = meanwhile(one, first, COMMIT, other, second)

    assert has_waited
    assert isinstance(refused, StateConflict)
    assert one.batch() == moved


def test_at_any_moment_one_counts(one: Side, other: Side) -> None:
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        one.add_running(batch_id)

        cancelled, expired = at_once([partial(one.cancel, batch_id), partial(other.expire, batch_id)])

        assert isinstance(cancelled, StateConflict) is not isinstance(expired, StateConflict)
        is_cancelled = isinstance(expired, StateConflict)
        assert one.batch(batch_id).status is (Status.CANCELLING if is_cancelled else Status.EXPIRING)
