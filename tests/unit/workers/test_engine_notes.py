"""Notes on the failed calls of lines without a result."""

import threading
from collections.abc import Callable

from app.domain.result import Met
from app.domain.retry import Trouble
from app.services.ports import Answer
from tests.unit.workers.engine_house import EngineHouse, finished
from tests.unit.workers.waiting import WITHIN_S, batch_in_hand, until

LONG_AWAY = Answer(Trouble.AWAY, 429, "upstream-1", b"{}", retry_after_s=500.0)
HIDDEN = Answer(Trouble.AWAY, 200, "upstream-2", b'{"error": {}}', retry_after_s=500.0)
REFUSED = Answer(Trouble.AWAY, error=("connection_failed", "No connection to the upstream: refused"), retry_after_s=500)


def test_the_last_failed_call_of_a_line_is_noted_before_its_task_is_settled(
    open_house: Callable[..., EngineHouse],
) -> None:
    house = open_house([LONG_AWAY, REFUSED, HIDDEN])
    batch = batch_in_hand()
    run = house.submit(3, batch)
    until(lambda: house.lane.paused == 3)

    house.engine.stop_batch(batch)

    assert finished(run)
    assert set(house.trials.met("batch_1").values()) == {
        Met(1, "429 Too Many Requests"),
        Met(1, "200 OK with an error in its body"),
        Met(1, "connection_failed: No connection to the upstream: refused"),
    }


def test_no_note_is_made_of_lines_without_a_failed_call(house: EngineHouse) -> None:
    batch = batch_in_hand()
    run = house.hold(20, batch)

    house.engine.stop_batch(batch)
    house.upstream.is_held = False

    assert finished(run)
    assert house.trials.met("batch_1") == {}


def test_failed_calls_of_a_waiting_line_are_noted_before_its_worker_dies(
    open_house: Callable[..., EngineHouse],
) -> None:
    house = open_house([LONG_AWAY])
    house.submit(1)
    until(lambda: house.lane.paused == 1)

    # The engine does this each half minute.
    house.engine._loop.call_soon_threadsafe(house.engine._note_paused)

    until(lambda: house.trials.met("batch_1") == {0: Met(1, "429 Too Many Requests")})


def test_failed_calls_are_noted_once(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([LONG_AWAY])
    noted = list[object]()
    house.engine._writer.note = lambda *said: noted.append(said)
    house.submit(1)
    until(lambda: house.lane.paused == 1)

    is_over = threading.Event()
    for _ in range(3):
        house.engine._loop.call_soon_threadsafe(house.engine._note_paused)
    house.engine._loop.call_soon_threadsafe(is_over.set)

    assert is_over.wait(WITHIN_S)
    assert noted == [("batch_1", 0, Met(1, "429 Too Many Requests"))]


def test_a_paused_line_without_a_failed_call_holds_up_no_note(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([LONG_AWAY])
    house.submit(1, batch_in_hand("batch_late", deadline=house.clock.now()))
    until(lambda: house.lane.paused == 1)
    house.submit(1)
    until(lambda: house.lane.paused == 2)

    house.engine._loop.call_soon_threadsafe(house.engine._note_paused)

    until(lambda: house.trials.met("batch_1") == {0: Met(1, "429 Too Many Requests")})
    assert house.trials.met("batch_late") == {}


def test_a_database_that_takes_no_note_holds_up_no_line(open_house: Callable[..., EngineHouse]) -> None:
    house = open_house([LONG_AWAY])

    def fail(met: object) -> None:
        raise ConnectionError("The database is away.")

    house.writer._note = fail
    batch = batch_in_hand()
    run = house.submit(1, batch)
    until(lambda: house.lane.paused == 1)

    house.engine.stop_batch(batch)

    assert finished(run)
