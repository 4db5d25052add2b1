"""The window elapses while the last line is in and finalizing begins: it expires or completes, and not both."""

from functools import partial

from app.domain.errors import StateConflict
from app.domain.lifecycle import Status
from tests.races.interleaving import COMMIT, at_once, meanwhile
from tests.races.sides import Side

ROUNDS = 20


def test_a_window_that_elapses_behind_the_seal_interrupts_nothing(one: Side, other: Side) -> None:
    one.add_recorded()
    one.batches.lease("batch_1", "mine")

    sealed, expired, has_waited = meanwhile(one, one.seal, COMMIT, other, other.expire)

    assert has_waited
    assert isinstance(expired, StateConflict)
    assert one.batch() == sealed
    assert one.finish().status is Status.COMPLETED


def test_a_window_that_elapses_amid_the_seal_waits_for_it(one: Side, other: Side) -> None:
    one.add_recorded()
    one.batches.lease("batch_1", "mine")

    sealed, expired, has_waited = meanwhile(one, one.seal, "UPDATE batches", other, other.expire)

    assert has_waited
    assert isinstance(expired, StateConflict)
    assert sealed.status is Status.FINALIZING


def test_a_seal_behind_the_window_ends_the_batch_as_expired(one: Side, other: Side) -> None:
    one.add_recorded()
    one.batches.lease("batch_1", "mine")

    expired, sealed, has_waited = meanwhile(one, one.expire, COMMIT, other, other.seal)

    assert has_waited
    assert (expired.status, sealed.status) == (Status.EXPIRING, Status.EXPIRING)
    assert one.finish().status is Status.EXPIRED


def test_a_window_that_elapses_behind_a_finish_changes_nothing(one: Side, other: Side) -> None:
    one.add_sealed()

    finished, expired, _ = meanwhile(one, one.finish, COMMIT, other, other.expire)

    assert isinstance(expired, StateConflict)
    assert one.batch() == finished


def test_at_any_moment_it_expires_or_completes(one: Side, other: Side) -> None:
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        one.add_recorded(batch_id)

        expired, is_finished = at_once(
            [partial(one.expire, batch_id), partial(other.finalization().finalize, batch_id)]
        )

        assert is_finished is True
        expected = Status.COMPLETED if isinstance(expired, StateConflict) else Status.EXPIRED
        assert one.batch(batch_id).status is expected
        assert one.lines_of(one.batch(batch_id).output_file_id) == ["id-0", "id-1", "id-2"]
