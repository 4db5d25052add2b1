"""What every store of batches promises to those who validate or finalize one."""

import pytest

from app.domain.errors import StateConflict
from app.domain.lifecycle import Event, Status
from tests.contracts.conftest import NOW, Stores, result


def test_a_lease_keeps_others_out_until_it_ends(stores: Stores) -> None:
    stores.add_batch()

    assert stores.batches.lease("batch_1", "mine", NOW, 60) is True
    assert stores.batches.lease("batch_1", "other", NOW + 59, 60) is False
    assert stores.batches.lease("batch_1", "other", NOW + 61, 60) is True
    assert stores.batches.lease("batch_1", "mine", NOW + 62, 60) is False


def test_its_holder_extends_a_lease(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine", NOW, 60)

    assert stores.batches.lease("batch_1", "mine", NOW + 50, 60) is True
    assert stores.batches.lease("batch_1", "other", NOW + 100, 60) is False


def test_a_released_lease_is_free(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine", NOW, 60)

    stores.batches.release("batch_1", "mine")

    assert stores.batches.lease("batch_1", "other", NOW, 60) is True


def test_nobody_releases_the_lease_of_another(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine", NOW, 60)

    stores.batches.release("batch_1", "other")

    assert stores.batches.lease("batch_1", "other", NOW, 60) is False


def test_there_is_no_lease_on_no_batch(stores: Stores) -> None:
    assert stores.batches.lease("batch_unknown", "mine", NOW, 60) is False


def test_sealing_a_batch_recorded_whole_starts_finalizing(stores: Stores) -> None:
    stores.add_recorded()
    stores.batches.lease("batch_1", "mine", NOW, 60)

    batch = stores.batches.seal("batch_1", "mine", NOW + 5)

    assert batch == stores.batches.find("batch_1")
    assert (batch.status, batch.finalizing_at, batch.sealed_at) == (Status.FINALIZING, NOW + 5, NOW + 5)
    assert batch.finalize_tries == 1


def test_a_batch_with_lines_missing_is_not_sealed(stores: Stores) -> None:
    stores.add_running()
    stores.results.record([result(0)])
    stores.batches.lease("batch_1", "mine", NOW, 60)

    with pytest.raises(StateConflict):
        stores.batches.seal("batch_1", "mine", NOW)

    batch = stores.batches.find("batch_1")
    assert batch is not None
    assert (batch.status, batch.sealed_at, batch.finalize_tries) == (Status.IN_PROGRESS, None, 0)


@pytest.mark.parametrize("event", [Event.CANCEL_REQUESTED, Event.WINDOW_ELAPSED])
def test_a_cancelled_or_expired_batch_is_sealed_with_lines_missing(stores: Stores, event: Event) -> None:
    stores.add_running()
    stores.batches.advance("batch_1", event, NOW + 2)
    stores.batches.lease("batch_1", "mine", NOW, 60)

    batch = stores.batches.seal("batch_1", "mine", NOW + 5)

    assert batch.status in (Status.CANCELLING, Status.EXPIRING)
    assert (batch.sealed_at, batch.finalize_tries) == (NOW + 5, 1)


def test_sealing_again_counts_a_try_and_keeps_the_instant(stores: Stores) -> None:
    stores.add_recorded()
    stores.batches.lease("batch_1", "mine", NOW, 60)
    stores.batches.seal("batch_1", "mine", NOW + 5)

    batch = stores.batches.seal("batch_1", "mine", NOW + 9)

    assert (batch.sealed_at, batch.finalizing_at, batch.finalize_tries) == (NOW + 5, NOW + 5, 2)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.IN_PROGRESS, Status.FINALIZING}))
def test_what_has_ended_or_not_begun_is_not_sealed(stores: Stores, status: Status) -> None:
    stores.add_in(status)
    stores.batches.lease("batch_1", "mine", NOW, 60)

    if status in (Status.CANCELLING, Status.EXPIRING):
        assert stores.batches.seal("batch_1", "mine", NOW).sealed_at == NOW
        return
    with pytest.raises(StateConflict):
        stores.batches.seal("batch_1", "mine", NOW)


@pytest.mark.parametrize("status", [Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING, Status.EXPIRING])
def test_only_the_holder_of_the_lease_seals(stores: Stores, status: Status) -> None:
    stores.add_in(status)
    stores.batches.lease("batch_1", "other", NOW, 60)
    before = stores.batches.find("batch_1")

    with pytest.raises(StateConflict):
        stores.batches.seal("batch_1", "mine", NOW)

    assert stores.batches.find("batch_1") == before


@pytest.mark.parametrize("status", list(Status))
def test_stalled_are_those_that_wait_for_validation_or_finalizing(stores: Stores, status: Status) -> None:
    stores.add_in(status)
    stores.add_running("batch_running")
    is_over = status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)

    stalled = [batch.id for batch in stores.batches.stalled(NOW, 10)]

    assert stalled == ([] if is_over else ["batch_1"])


def test_what_is_leased_is_not_stalled_until_the_lease_ends(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine", NOW, 60)

    assert stores.batches.stalled(NOW + 30, 10) == []
    assert [batch.id for batch in stores.batches.stalled(NOW + 61, 10)] == ["batch_1"]


def test_a_stalled_batch_says_whose_lease_ran_out(stores: Stores) -> None:
    stores.add_batch("batch_begun")
    stores.add_batch("batch_new")
    stores.add_batch("batch_released")
    stores.batches.lease("batch_begun", "dead", NOW, 6)
    stores.batches.lease("batch_released", "mine", NOW, 6)
    stores.batches.release("batch_released", "mine")

    owners = {batch.id: batch.lease_owner for batch in stores.batches.stalled(NOW + 7, 10)}

    assert owners == {"batch_begun": "dead", "batch_new": None, "batch_released": None}


def test_stalled_returns_no_more_than_asked_for(stores: Stores) -> None:
    for number in range(3):
        stores.add_batch(f"batch_{number}")

    assert len(stores.batches.stalled(NOW, 2)) == 2
