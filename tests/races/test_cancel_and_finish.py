"""A caller cancels while the files of the batch are written: they are told what it comes to."""

from functools import partial

from app.domain.errors import StateConflict
from app.domain.lifecycle import Status
from tests.races.interleaving import COMMIT, at_once, meanwhile
from tests.races.sides import Side, ids_of

ROUNDS = 20


def test_a_cancel_amid_a_finish_waits_and_is_refused(one: Side, other: Side) -> None:
    one.add_sealed()

    finished, cancelled, has_waited = meanwhile(one, one.finish, "UPDATE batches", other, other.cancel)

    assert has_waited
    assert (finished.status, type(cancelled)) == (Status.COMPLETED, StateConflict)
    assert (finished.completed, finished.failed) == (3, 0)
    assert one.batch() == finished
    assert ids_of(one.output_files()) == ["file-batch_1-mine"]


def test_a_cancel_that_comes_behind_a_finish_is_refused(one: Side, other: Side) -> None:
    one.add_sealed()

    finished, cancelled, has_waited = meanwhile(one, one.finish, COMMIT, other, other.cancel)

    assert has_waited
    assert isinstance(cancelled, StateConflict)
    assert one.batch() == finished
    assert finished.status is Status.COMPLETED


def test_a_finish_that_comes_behind_a_cancel_ends_it_as_cancelled(one: Side, other: Side) -> None:
    one.add_sealed()

    cancelled, finished, has_waited = meanwhile(one, one.cancel, COMMIT, other, other.finish)

    assert has_waited
    assert (cancelled.status, finished.status) == (Status.CANCELLING, Status.CANCELLED)
    assert one.batch() == finished


def test_whoever_was_told_cancelling_sees_cancelled(one: Side, other: Side) -> None:
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        one.add_sealed(batch_id)

        cancelled, finished = at_once([partial(one.cancel, batch_id), partial(other.finish, batch_id=batch_id)])

        expected = Status.COMPLETED if isinstance(cancelled, StateConflict) else Status.CANCELLED
        assert finished.status is expected
        assert one.batch(batch_id) == finished
