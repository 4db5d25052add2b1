"""Leases of a process on the batches that it works on."""

import pytest

from app.domain.errors import StateConflict, Unavailable
from app.services.leases import LEASE_S, PAUSE_S, RENEW_S, Lease, Leases, LeaseWatch
from tests.fakes.database import MemoryDatabase
from tests.fakes.outside import FakeClock
from tests.fakes.stores import MemoryBatchStore
from tests.unit.services.pipeline_house import new_batch


class Desk:
    """Leases over one batch, and another process that asks for it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.batches = FlakyBatchStore(MemoryDatabase())
        self.batches.add(new_batch())
        self.leases = Leases(self.batches, self.clock)
        self.watch = LeaseWatch(self.batches, self.clock)
        self.watch.free()

    def wait(self, seconds: float) -> None:
        """Let time pass while upkeep looks each second."""
        until = self.clock.monotonic() + seconds
        while (left_s := until - self.clock.monotonic()) > 0:
            self.clock.advance(min(left_s, 1.0))
            self.watch.free()

    def may_other_take_it(self) -> bool:
        self.watch.free()
        is_taken = self.batches.lease("batch_1", "other")
        self.batches.release("batch_1", "other")
        return is_taken


class FlakyBatchStore(MemoryBatchStore):
    """A store whose database may be away."""

    is_away = False

    def lease(self, batch_id: str, token: str) -> bool:
        if self.is_away:
            raise Unavailable("The database is away.")
        return super().lease(batch_id, token)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def taken(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def test_a_process_that_died_is_followed_within_seconds(desk: Desk) -> None:
    dead = Lease(desk.batches, desk.clock, "batch_1")
    assert dead.take()
    at_once = desk.may_other_take_it()

    desk.wait(LEASE_S + 1.1)

    assert not at_once
    assert LEASE_S <= 6
    assert desk.may_other_take_it()


def test_a_step_that_takes_long_is_not_taken_for_a_death(desk: Desk) -> None:
    with desk.leases.hold("batch_1") as lease:
        for _ in range(40):
            desk.clock.advance(RENEW_S)
            # By a thread of the process, while the work is amid one step.
            desk.leases.renew()
            assert not desk.may_other_take_it()
        taken(lease).check()


def test_work_that_goes_on_renews_its_lease_by_itself(desk: Desk) -> None:
    with desk.leases.hold("batch_1") as lease:
        for _ in range(40):
            desk.wait(LEASE_S - RENEW_S)
            taken(lease).check()
            assert not desk.may_other_take_it()


def test_work_that_lost_its_lease_learns_of_it(desk: Desk) -> None:
    with desk.leases.hold("batch_1") as lease:
        desk.wait(LEASE_S + 1.1)
        assert desk.batches.lease("batch_1", "other")
        desk.leases.renew()
        desk.clock.advance(RENEW_S)

        with pytest.raises(StateConflict):
            taken(lease).check()


def test_a_batch_that_another_holds_is_let_be(desk: Desk) -> None:
    desk.batches.lease("batch_1", "other")

    with desk.leases.hold("batch_1") as lease:
        assert lease is None
    desk.wait(LEASE_S + 1.1)
    desk.leases.renew()

    assert desk.may_other_take_it()


def test_work_that_is_done_gives_the_batch_up_at_once(desk: Desk) -> None:
    with desk.leases.hold("batch_1"):
        pass
    desk.leases.renew()

    assert desk.may_other_take_it()


def test_work_that_failed_leaves_a_pause(desk: Desk) -> None:
    with pytest.raises(OSError, match="disk"), desk.leases.hold("batch_1"):
        raise OSError("The disk is full.")
    desk.wait(PAUSE_S - 1)
    amid = desk.may_other_take_it()
    desk.wait(2.1)

    assert not amid
    assert desk.may_other_take_it()


def test_a_lease_that_is_given_up_is_not_taken_again_by_a_late_renewal(desk: Desk) -> None:
    with desk.leases.hold("batch_1") as lease:
        pass

    taken(lease).take()

    assert desk.may_other_take_it()


def test_a_database_that_is_away_for_a_moment_costs_no_lease(desk: Desk) -> None:
    with desk.leases.hold("batch_1") as lease:
        desk.batches.is_away = True
        desk.clock.advance(LEASE_S + 1)
        desk.leases.renew()
        desk.batches.is_away = False

        desk.leases.renew()

        assert not desk.may_other_take_it()
        taken(lease).check()


@pytest.mark.parametrize("seconds", [-3_600, 3_600])
def test_a_clock_that_is_set_makes_no_holder_dead_and_none_live_longer(desk: Desk, seconds: float) -> None:
    dead = Lease(desk.batches, desk.clock, "batch_1")
    dead.take()
    desk.watch.free()

    desk.clock.step(seconds)
    at_once = desk.may_other_take_it()
    desk.wait(LEASE_S + 1.1)

    assert not at_once
    assert desk.may_other_take_it()


def test_whoever_watches_and_stood_still_takes_nobody_for_dead(desk: Desk) -> None:
    Lease(desk.batches, desk.clock, "batch_1").take()
    desk.watch.free()

    desk.clock.advance(3_600)

    assert not desk.may_other_take_it()
