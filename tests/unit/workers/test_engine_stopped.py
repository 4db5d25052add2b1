"""Threads of a worker that end after the engine, such as the heartbeat, may still ask the engine for something."""

from tests.unit.workers.engine_house import EngineHouse
from tests.unit.workers.waiting import batch_in_hand, is_settled


def test_requests_from_other_threads_after_the_engine_has_stopped_do_nothing(house: EngineHouse) -> None:
    batch = batch_in_hand()
    house.engine.stop()

    run = house.submit(2, batch)
    house.engine.stop_batch(batch)
    house.engine.abort_batch(batch)
    house.engine.let_go()
    house.engine.share_out(0, [{}])
    house.engine.drain(0)
    house.engine.stop()

    assert not is_settled(run)
    assert house.upstream.bodies == house.records == []
