"""Two processes write the files of a batch: the batch ends once, with the files of one process."""

from functools import partial

from app.domain.errors import StateConflict
from app.domain.lifecycle import Status
from tests.fakes.stores import break_leases
from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, Stop, Stopping, at_once, meanwhile, while_standing
from tests.races.sides import Side, ids_of

ROUNDS = 5


def assert_ended_once(side: Side, batch_id: str = "batch_1") -> None:
    batch = side.batch(batch_id)
    assert batch.status is Status.COMPLETED
    own = [file for file in side.output_files() if file.filename.startswith(f"{batch_id}_")]
    assert ids_of(own) == [batch.output_file_id]
    assert side.lines_of(batch.output_file_id) == ["id-0", "id-1", "id-2"]
    assert {key for key in side.blobs.stored if key.startswith(f"results/{batch_id}-")} == {own[0].blob}
    assert not side.blobs.unfinished


def test_a_finalizer_that_comes_back_without_a_lease_leaves_no_file(one: Side, other: Side) -> None:
    one.add_recorded()
    stop = Stop()
    slow = one.finalization(Stopping(one.batches, "finish", stop))
    ends = []

    def take_over() -> None:
        break_leases(one.batches)
        ends.append(other.finalization().finalize("batch_1"))

    is_ended_by_slow = while_standing(stop, lambda: slow.finalize("batch_1"), take_over)

    assert (is_ended_by_slow, ends) == (False, [True])
    assert_ended_once(one)


def test_a_finalizer_that_comes_back_does_not_touch_the_files_of_its_successor(one: Side, other: Side) -> None:
    one.add_recorded()
    slow_stop, quick_stop = Stop(), Stop()
    slow = one.finalization(Stopping(one.batches, "finish", slow_stop))
    quick = other.finalization(Stopping(other.batches, "finish", quick_stop))
    ends = []

    def take_over() -> None:
        break_leases(one.batches)
        ends.append(while_standing(quick_stop, lambda: quick.finalize("batch_1"), slow_stop.let_go))

    is_ended_by_slow = while_standing(slow_stop, lambda: slow.finalize("batch_1"), take_over)

    assert (is_ended_by_slow, ends) == (False, [True])
    assert_ended_once(one)


def test_only_the_holder_of_the_lease_finishes(one: Side, other: Side) -> None:
    one.add_sealed(token="mine")
    break_leases(one.batches)
    one.batches.lease("batch_1", "theirs")

    mine, theirs, has_waited = meanwhile(
        one, partial(one.finish, "mine"), "UPDATE batches", other, partial(other.finish, "theirs")
    )

    assert isinstance(mine, StateConflict)
    assert theirs.status is Status.COMPLETED
    assert has_waited
    assert ids_of(one.output_files()) == ["file-batch_1-theirs"]


def test_only_the_holder_of_the_lease_seals(one: Side, other: Side) -> None:
    one.add_recorded()

    leased, sealed, has_waited = meanwhile(
        other, lambda: other.batches.lease("batch_1", "theirs"), COMMIT, one, one.seal
    )

    assert (leased, has_waited) == (True, True)
    assert isinstance(sealed, StateConflict)
    assert one.batch().status is Status.IN_PROGRESS


def test_the_second_of_two_processes_waits_and_gets_no_lease(one: Side, other: Side) -> None:
    one.add_recorded()

    first, second, has_waited = meanwhile(
        one,
        lambda: one.batches.lease("batch_1", "mine"),
        COMMIT,
        other,
        lambda: other.batches.lease("batch_1", "theirs"),
    )

    assert (first, second, has_waited) == (True, False, True)


def test_a_free_lease_is_taken_over_by_one_process(one: Side, other: Side) -> None:
    one.add_recorded()
    one.batches.lease("batch_1", "dead")
    break_leases(one.batches)

    first, second, _ = meanwhile(
        one,
        lambda: one.batches.lease("batch_1", "mine"),
        COMMIT,
        other,
        lambda: other.batches.lease("batch_1", "theirs"),
    )

    assert (first, second) == (True, False)


def test_one_of_several_finalizers_ends_the_batch(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        sides[0].add_recorded(batch_id)

        ends = at_once([partial(side.finalization().finalize, batch_id) for side in sides])

        assert ends.count(True) == 1
        assert_ended_once(sides[0], batch_id)
