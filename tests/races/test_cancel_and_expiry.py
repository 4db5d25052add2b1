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
    batch_id = one.create(one.upload()).id
    first, second = (one.cancel, other.expire) if is_cancel_first else (one.expire, other.cancel)

    outcomes = meanwhile(one, partial(first, batch_id), "UPDATE batches", other, partial(second, batch_id))

    # SQLite lets the first end. In PostgreSQL the second overtakes it, and the first sees that.
    winner, loser = outcomes[:2] if is_sqlite(one) else outcomes[1::-1]
    assert isinstance(loser, StateConflict)
    assert one.batch(batch_id) == winner


@pytest.mark.parametrize("at", ["UPDATE sections", "UPDATE batches"])
def test_of_two_that_move_a_batch_with_sections_the_second_waits(one: Side, other: Side, at: str) -> None:
    one.add_running()

    cancelled, expired, has_waited = meanwhile(one, one.cancel, at, other, other.expire)

    assert has_waited
    assert isinstance(expired, StateConflict)
    assert one.batch() == cancelled


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
