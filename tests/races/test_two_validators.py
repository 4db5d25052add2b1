"""Two check one input: the batch is accepted once, with the plan of one of them."""

from functools import partial

from app.domain.errors import StateConflict
from app.domain.lifecycle import Status
from tests.fakes.stores import break_leases
from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, Stop, Stopping, at_once, meanwhile, while_standing
from tests.races.sides import Side

ROUNDS = 5


def plans(side: Side) -> set[str]:
    return {key for key in side.blobs.stored if key.startswith("plans/")}


def test_a_validator_that_comes_back_after_its_lease_leaves_nothing(one: Side, other: Side) -> None:
    batch = one.create(one.upload())
    stop = Stop()
    slow = one.validation(Stopping(one.batches, "accept", stop))
    accepted = []

    def take_over() -> None:
        break_leases(one.batches)
        accepted.append(other.validation().validate(batch.id))

    is_accepted_by_slow = while_standing(stop, lambda: slow.validate(batch.id), take_over)

    assert (is_accepted_by_slow, accepted) == (False, [True])
    assert one.batch(batch.id).status is Status.IN_PROGRESS
    assert plans(one) == {one.batch(batch.id).plan_blob}
    assert not one.blobs.unfinished


def test_a_second_validator_finds_the_first_at_work(one: Side, other: Side) -> None:
    batch = one.create(one.upload())
    stop = Stop()
    slow = one.validation(Stopping(one.batches, "accept", stop))
    accepted = []

    is_accepted_by_slow = while_standing(
        stop, lambda: slow.validate(batch.id), lambda: accepted.append(other.validation().validate(batch.id))
    )

    assert (is_accepted_by_slow, accepted) == (True, [False])
    assert plans(one) == {one.batch(batch.id).plan_blob}


def test_an_accept_behind_a_cancel_comes_too_late(one: Side, other: Side) -> None:
    batch = one.create(one.upload())

    cancelled, is_accepted, has_waited = meanwhile(
        one, partial(one.cancel, batch.id), COMMIT, other, partial(other.validation().validate, batch.id)
    )

    assert has_waited
    assert not isinstance(cancelled, StateConflict)
    assert is_accepted is False
    assert one.batch(batch.id).status is Status.CANCELLING
    assert plans(one) == set()


def test_of_several_at_once_one_accepts(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    for number in range(ROUNDS):
        batch = sides[0].create(sides[0].upload(f"file-{number}"))

        accepted = at_once([partial(side.validation().validate, batch.id) for side in sides])

        assert accepted.count(True) == 1
        assert sides[0].batch(batch.id).status is Status.IN_PROGRESS
        assert sides[0].batch(batch.id).plan_blob in plans(sides[0])
        assert len(plans(sides[0])) == number + 1
