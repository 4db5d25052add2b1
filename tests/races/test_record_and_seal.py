"""A result comes in while its batch is sealed: it is in the files and the counts, or in neither."""

from functools import partial

from app.domain.lifecycle import Status
from tests.races.interleaving import COMMIT, at_once, meanwhile
from tests.races.sides import NOW, Side, result

ROUNDS = 20


def add_cancelled(side: Side, batch_id: str = "batch_1") -> None:
    side.add_running(batch_id)
    side.cancel(batch_id)
    side.batches.lease(batch_id, "mine")


def test_a_seal_amid_a_record_waits_and_counts_its_result(one: Side, other: Side) -> None:
    add_cancelled(one)

    _, sealed, has_waited = meanwhile(one, lambda: one.record(result(0)), "INSERT INTO segments", other, other.seal)

    assert has_waited
    assert sealed.recorded == 1
    assert one.rows().keys() == {0}
    assert one.batch() == sealed


def test_an_end_amid_a_record_waits_and_counts_its_result(one: Side, other: Side) -> None:
    one.add_running()

    _, ended, has_waited = meanwhile(
        one,
        lambda: one.record(result(0)),
        "INSERT INTO segments",
        other,
        lambda: other.batches.give_up("batch_1", [], NOW),
    )

    assert has_waited
    assert (ended.status, ended.recorded) == (Status.FAILED, 1)
    assert one.rows().keys() == {0}
    assert one.batch() == ended


def test_a_result_behind_an_end_waits_and_is_dropped(one: Side, other: Side) -> None:
    one.add_running()
    one.record(result(0))

    ended, progress, has_waited = meanwhile(
        one, lambda: one.batches.give_up("batch_1", [], NOW), COMMIT, other, lambda: other.record(result(1))
    )

    assert has_waited
    assert progress == []
    assert one.rows().keys() == {0}
    assert one.batch() == ended


def test_a_result_behind_the_seal_waits_and_is_dropped(one: Side, other: Side) -> None:
    add_cancelled(one)

    sealed, progress, has_waited = meanwhile(one, one.seal, COMMIT, other, lambda: other.record(result(0)))

    assert has_waited
    assert progress == []
    assert one.rows() == {}
    assert one.batch() == sealed


def test_a_result_behind_a_cancel_of_a_sealed_batch_is_dropped(one: Side, other: Side) -> None:
    one.add_running()
    one.record(result(0), result(1), result(2))
    one.batches.lease("batch_1", "mine")
    one.seal()

    cancelled, progress, _ = meanwhile(one, one.cancel, COMMIT, other, lambda: other.record(result(0)))

    assert progress == []
    assert one.batch() == cancelled
    assert one.record(result(0)) == []


def test_a_result_behind_the_cancel_counts(one: Side, other: Side) -> None:
    one.add_running()

    _, progress, has_waited = meanwhile(one, one.cancel, COMMIT, other, lambda: other.record(result(0)))

    assert has_waited
    assert len(progress) == 1
    assert (one.batch().status, one.batch().recorded) == (Status.CANCELLING, 1)


def test_a_result_of_a_batch_that_was_not_accepted_is_dropped(one: Side, other: Side) -> None:
    batch = one.create(one.upload())

    _, progress, _ = meanwhile(
        one, lambda: one.batches.reject(batch.id, [], NOW), COMMIT, other, lambda: other.record(result(0, batch.id))
    )

    assert progress == []
    assert one.rows(batch.id) == {}
    assert one.batch(batch.id).status is Status.FAILED


def test_the_last_result_lets_a_seal_behind_it_pass(one: Side, other: Side) -> None:
    one.add_running()
    one.record(result(0), result(1))
    one.batches.lease("batch_1", "mine")

    _, sealed, has_waited = meanwhile(one, lambda: one.record(result(2)), COMMIT, other, other.seal)

    assert has_waited
    assert (sealed.status, sealed.recorded) == (Status.FINALIZING, 3)


def test_at_any_moment_the_counts_are_what_is_there(one: Side, other: Side) -> None:
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        add_cancelled(one, batch_id)

        _, sealed = at_once([partial(one.record, result(0, batch_id)), partial(other.seal, batch_id=batch_id)])

        # What was sealed is what stays: no result comes in behind it.
        assert one.batch(batch_id) == sealed
        assert len(one.rows(batch_id)) == sealed.recorded
