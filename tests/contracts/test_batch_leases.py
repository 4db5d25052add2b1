"""What every store of batches promises to those who validate or finalize one."""

from dataclasses import replace

import pytest

from app.domain.errors import StateConflict
from app.domain.lifecycle import Event, Status
from tests.contracts.conftest import NOW, Stores, result
from tests.fakes.stores import break_leases


def test_a_lease_keeps_others_out_until_it_is_broken(stores: Stores) -> None:
    stores.add_batch()

    assert stores.batches.lease("batch_1", "mine") is True
    assert stores.batches.lease("batch_1", "other") is False
    break_leases(stores.batches)
    assert stores.batches.lease("batch_1", "other") is True
    assert stores.batches.lease("batch_1", "mine") is False


def test_a_lease_that_was_renewed_since_it_was_seen_is_not_broken(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")
    (seen,) = stores.batches.leases()
    stores.batches.lease("batch_1", "mine")

    is_broken = stores.batches.break_lease(seen)

    (renewed,) = stores.batches.leases()
    assert not is_broken
    assert (renewed.batch_id, renewed.owner) == ("batch_1", "mine")
    assert renewed.renewals > seen.renewals


def test_a_lease_that_changed_hands_since_it_was_seen_is_not_broken(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")
    (seen,) = stores.batches.leases()
    stores.batches.release("batch_1", "mine")
    stores.batches.lease("batch_1", "other")

    assert not stores.batches.break_lease(seen)
    assert [lease.owner for lease in stores.batches.leases()] == ["other"]


def test_a_lease_that_was_paused_since_it_was_seen_is_not_broken(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")
    (seen,) = stores.batches.leases()
    stores.batches.pause_lease("batch_1", "mine")

    assert not stores.batches.break_lease(seen)
    assert [lease.owner for lease in stores.batches.leases()] == ["paused-mine"]


def test_its_holder_extends_a_lease(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")

    assert stores.batches.lease("batch_1", "mine") is True
    assert stores.batches.lease("batch_1", "other") is False


def test_a_released_lease_is_free(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")

    stores.batches.release("batch_1", "mine")

    assert stores.batches.lease("batch_1", "other") is True


def test_nobody_releases_the_lease_of_another(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")

    stores.batches.release("batch_1", "other")

    assert stores.batches.lease("batch_1", "other") is False


def test_nobody_pauses_the_lease_of_another(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")

    stores.batches.pause_lease("batch_1", "other")

    assert [lease.owner for lease in stores.batches.leases()] == ["mine"]


def test_a_lease_of_one_batch_changes_no_other_batch_of_the_same_holder(stores: Stores) -> None:
    for batch_id in ("batch_1", "batch_2"):
        stores.add_recorded(batch_id)
        stores.batches.lease(batch_id, "mine")
        stores.batches.seal(batch_id, "mine", NOW)
    broken, kept = sorted(stores.batches.leases())
    before = stores.batches.find("batch_2")

    assert stores.batches.break_lease(broken)
    stores.batches.lease("batch_1", "mine")
    stores.batches.seal("batch_1", "mine", NOW + 5)
    stores.batches.excuse_try("batch_1", "mine")
    stores.batches.release("batch_1", "mine")
    stores.batches.lease("batch_1", "mine")
    stores.batches.pause_lease("batch_1", "mine")

    assert stores.batches.find("batch_2") == before
    assert [lease for lease in stores.batches.leases() if lease.batch_id == "batch_2"] == [kept]


def test_only_the_holder_of_the_lease_excuses_a_try_and_no_more_tries_than_were_made(stores: Stores) -> None:
    stores.add_recorded()
    stores.batches.lease("batch_1", "mine")
    sealed = stores.batches.seal("batch_1", "mine", NOW)

    stores.batches.excuse_try("batch_1", "other")
    after_another = stores.batches.find("batch_1")
    for _ in range(2):
        stores.batches.excuse_try("batch_1", "mine")

    assert after_another == sealed
    assert stores.batches.find("batch_1") == replace(sealed, finalize_tries=0)


def test_there_is_no_lease_on_no_batch(stores: Stores) -> None:
    assert stores.batches.lease("batch_unknown", "mine") is False


def test_sealing_a_batch_recorded_whole_starts_finalizing(stores: Stores) -> None:
    stores.add_recorded()
    stores.batches.lease("batch_1", "mine")

    batch = stores.batches.seal("batch_1", "mine", NOW + 5)

    assert batch == stores.batches.find("batch_1")
    assert (batch.status, batch.finalizing_at, batch.sealed_at) == (Status.FINALIZING, NOW + 5, NOW + 5)
    assert batch.finalize_tries == 1


def test_a_batch_with_lines_missing_is_not_sealed(stores: Stores) -> None:
    stores.add_running()
    stores.results.record([result(0)])
    stores.batches.lease("batch_1", "mine")

    with pytest.raises(StateConflict):
        stores.batches.seal("batch_1", "mine", NOW)

    batch = stores.batches.find("batch_1")
    assert batch is not None
    assert (batch.status, batch.sealed_at, batch.finalize_tries) == (Status.IN_PROGRESS, None, 0)


@pytest.mark.parametrize("event", [Event.CANCEL_REQUESTED, Event.WINDOW_ELAPSED])
def test_a_cancelled_or_expired_batch_is_sealed_with_lines_missing(stores: Stores, event: Event) -> None:
    stores.add_running()
    stores.batches.advance("batch_1", event, NOW + 2)
    stores.batches.lease("batch_1", "mine")

    batch = stores.batches.seal("batch_1", "mine", NOW + 5)

    assert batch.status in (Status.CANCELLING, Status.EXPIRING)
    assert (batch.sealed_at, batch.finalize_tries) == (NOW + 5, 1)


def test_sealing_again_counts_a_try_and_keeps_the_instant(stores: Stores) -> None:
    stores.add_recorded()
    stores.batches.lease("batch_1", "mine")
    stores.batches.seal("batch_1", "mine", NOW + 5)

    batch = stores.batches.seal("batch_1", "mine", NOW + 9)

    assert (batch.sealed_at, batch.finalizing_at, batch.finalize_tries) == (NOW + 5, NOW + 5, 2)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.IN_PROGRESS, Status.FINALIZING}))
def test_what_has_ended_or_not_begun_is_not_sealed(stores: Stores, status: Status) -> None:
    stores.add_in(status)
    stores.batches.lease("batch_1", "mine")

    if status in (Status.CANCELLING, Status.EXPIRING):
        assert stores.batches.seal("batch_1", "mine", NOW).sealed_at == NOW
        return
    with pytest.raises(StateConflict):
        stores.batches.seal("batch_1", "mine", NOW)


@pytest.mark.parametrize("status", [Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING, Status.EXPIRING])
def test_only_the_holder_of_the_lease_seals(stores: Stores, status: Status) -> None:
    stores.add_in(status)
    stores.batches.lease("batch_1", "other")
    before = stores.batches.find("batch_1")

    with pytest.raises(StateConflict):
        stores.batches.seal("batch_1", "mine", NOW)

    assert stores.batches.find("batch_1") == before


@pytest.mark.parametrize("status", list(Status))
def test_stalled_are_those_that_wait_for_validation_or_finalizing(stores: Stores, status: Status) -> None:
    stores.add_in(status)
    stores.add_running("batch_running")
    is_over = status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)

    stalled = [batch.id for batch in stores.batches.stalled(10)]

    assert stalled == ([] if is_over else ["batch_1"])


def test_what_is_leased_is_not_stalled_until_the_lease_is_broken(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")

    assert stores.batches.stalled(10) == []
    break_leases(stores.batches)
    assert stores.batches.leases() == []
    assert [batch.id for batch in stores.batches.stalled(10)] == ["batch_1"]


def test_who_has_a_batch_for_a_pause_is_nobody_until_that_is_broken(stores: Stores) -> None:
    stores.add_batch()
    stores.batches.lease("batch_1", "mine")

    stores.batches.pause_lease("batch_1", "mine")

    assert [lease.owner for lease in stores.batches.leases()] == ["paused-mine"]
    assert stores.batches.lease("batch_1", "mine") is False
    break_leases(stores.batches)
    assert stores.batches.lease("batch_1", "mine") is True


def test_stalled_returns_no_more_than_asked_for(stores: Stores) -> None:
    for number in range(3):
        stores.add_batch(f"batch_{number}")

    assert len(stores.batches.stalled(2)) == 2
