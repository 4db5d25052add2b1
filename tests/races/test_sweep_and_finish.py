"""Upkeep sweeps while the files of a batch are written: nothing goes that they are made of."""

from functools import partial

from app.domain.lifecycle import Status
from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, Stop, Stopping, at_once, meanwhile, while_standing
from tests.races.sides import Side

MANY = 100


def test_a_sweep_before_the_batch_has_ended_keeps_its_results(one: Side, other: Side) -> None:
    one.add_recorded()
    stop = Stop()
    finalization = one.finalization(Stopping(one.batches, "finish", stop))
    cleared = []

    while_standing(stop, lambda: finalization.finalize("batch_1"), lambda: cleared.append(other.results.clear(MANY)))

    assert cleared == [0]
    assert one.rows().keys() == {0, 1, 2}
    assert one.lines_of(one.batch().output_file_id) == ["id-0", "id-1", "id-2"]


def test_a_sweep_amid_the_finish_clears_nothing_that_is_not_in_the_files(one: Side, other: Side) -> None:
    one.add_sealed()

    finished, cleared, has_waited = meanwhile(one, one.finish, COMMIT, other, lambda: other.results.clear(MANY))

    # Where it waited, the batch had ended by then.
    assert cleared == (3 if has_waited else 0)
    assert finished.status is Status.COMPLETED


def test_an_input_is_not_removed_before_the_batch_that_reads_it_has_ended(one: Side, other: Side) -> None:
    file = one.upload()
    batch = one.create(file)
    one.validation().validate(batch.id)
    one.files.mark_deleted(file.tenant_id, file.id, one.clock.now())
    one.cancel(batch.id)
    stop = Stop()
    finalization = one.finalization(Stopping(one.batches, "finish", stop))
    removable = []

    while_standing(
        stop,
        lambda: finalization.finalize(batch.id),
        lambda: removable.extend(other.files.removable(one.clock.now(), MANY)),
    )

    assert removable == []
    assert other.files.removable(one.clock.now(), MANY) == [file]
    assert one.lines_of(one.batch(batch.id).error_file_id) == ["id-0", "id-1", "id-2"]


def test_of_several_sweeps_at_once_none_fails(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    for number in range(5):
        sides[0].add_recorded(f"batch_{number}")
        sides[0].finalization().finalize(f"batch_{number}")

    cleared = at_once([partial(clear_all, side) for side in sides])

    assert sum(cleared) >= 15
    assert all(sides[0].rows(f"batch_{number}") == {} for number in range(5))


def clear_all(side: Side) -> int:
    total = 0
    while cleared := side.results.clear(2):
        total += cleared
    return total
