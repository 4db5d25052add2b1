"""Lease, stop and drain are looked at right before a request goes out, after whatever the line waited for."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from app.adapters.upstream.balanced import Failing
from app.services.ports import ANYBODY, Answer, Caller
from tests.unit.workers.engine_house import CONCURRENCY, EngineHouse, finished, request_line
from tests.unit.workers.test_engine_leases import lapse
from tests.unit.workers.waiting import WITHIN_S, batch_in_hand, until
from workers.batches_in_hand import BatchInHand
from workers.line_run import Line, LineRun

Change = Callable[[EngineHouse, BatchInHand], None]


def stop(house: EngineHouse, batch: BatchInHand) -> None:
    house.engine.stop_batch(batch)


def lose_the_lease(house: EngineHouse, batch: BatchInHand) -> None:
    lapse(house)


def drain(house: EngineHouse, batch: BatchInHand) -> None:
    house.engine.drain(grace_s=60)
    until(lambda: house.engine._is_draining)


on_each_change = pytest.mark.parametrize("change", [stop, lose_the_lease, drain], ids=lambda act: act.__name__)


class AskingUpstream:
    """Asks before it sends, after a wait of its own, as the client does once it has a connection."""

    def __init__(self, house: EngineHouse) -> None:
        self._house = house
        self.is_connecting = threading.Event()
        self.go_on = threading.Event()
        self.sent = 0

    async def call(self, endpoint: str, body: bytes, timeout_s: float, caller: Caller = ANYBODY) -> Answer:
        self.is_connecting.set()
        await asyncio.to_thread(self.go_on.wait, WITHIN_S)
        if caller.may_send():
            self.sent += 1
        return await self._house.upstream.call(endpoint, body, timeout_s, caller)

    async def close(self) -> None:
        """Do nothing."""

    def failing(self) -> list[Failing]:
        return []


@on_each_change
def test_no_request_goes_out_once_the_state_has_changed_while_its_line_is_read(
    open_house: Callable[..., EngineHouse], change: Change
) -> None:
    is_reading, go_on = threading.Event(), threading.Event()

    def read_line(line: Line) -> bytes:
        is_reading.set()
        assert go_on.wait(WITHIN_S)
        return request_line(line.position)

    house = open_house(read_line=read_line)
    batch = batch_in_hand()
    run = house.submit(1, batch, is_read=False)
    assert is_reading.wait(WITHIN_S)

    change(house, batch)
    go_on.set()

    assert finished(run)
    assert (house.upstream.bodies, house.records) == ([], [])


@on_each_change
@pytest.mark.parametrize("is_alone", [False, True])
def test_a_line_that_arrives_after_the_state_has_changed_does_not_wait_for_a_free_call(
    house: EngineHouse, change: Change, is_alone: bool
) -> None:
    house.hold(CONCURRENCY)
    batch, term = batch_in_hand(), house.lease.term
    change(house, batch)
    bodies = list(house.upstream.bodies)

    run = LineRun(batch, 1, term, is_alone=is_alone)
    house.lane.room.take(1)
    house.engine.submit([Line(run, house.lane, 0, 0, 10, request_line(0))])

    assert finished(run)
    assert (house.upstream.bodies, house.records) == (bodies, [])


@on_each_change
def test_a_line_out_of_time_is_not_kept_once_the_state_has_changed_while_it_is_read(
    open_house: Callable[..., EngineHouse], change: Change
) -> None:
    is_reading, go_on = threading.Event(), threading.Event()

    def read_line(line: Line) -> bytes:
        is_reading.set()
        assert go_on.wait(WITHIN_S)
        return request_line(line.position)

    house = open_house(read_line=read_line)
    batch = batch_in_hand(deadline=house.clock.now())
    run = house.submit(1, batch, is_read=False)
    assert is_reading.wait(WITHIN_S)

    change(house, batch)
    go_on.set()

    assert finished(run)
    assert (house.upstream.bodies, house.records) == ([], [])


@on_each_change
def test_no_request_goes_out_once_the_state_has_changed_while_its_line_is_noted(
    house: EngineHouse, change: Change
) -> None:
    is_noting, go_on, begin = threading.Event(), threading.Event(), house.trials.begin

    def begin_later(batch_id: str, position: int) -> int:
        is_noting.set()
        assert go_on.wait(WITHIN_S)
        return begin(batch_id, position)

    house.trials.begin = begin_later
    batch = batch_in_hand()
    run = house.submit(1, batch, is_alone=True)
    assert is_noting.wait(WITHIN_S)

    change(house, batch)
    go_on.set()

    assert finished(run)
    assert (house.upstream.bodies, house.records, house.trials.begun) == ([], [], {})


@on_each_change
def test_who_sends_is_told_that_the_state_has_changed_while_it_connected(house: EngineHouse, change: Change) -> None:
    asking = AskingUpstream(house)
    house.lane._upstream = asking
    batch = batch_in_hand()
    house.submit(1, batch)
    assert asking.is_connecting.wait(WITHIN_S)

    change(house, batch)
    asking.go_on.set()

    until(lambda: not house.lane.limit.in_flight)
    assert asking.sent == 0
