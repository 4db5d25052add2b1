import threading

import pytest

from workers.room import MESSAGES_PER_SLOT, Room


@pytest.fixture
def wakes() -> list[int]:
    return []


@pytest.fixture
def room(wakes: list[int]) -> Room:
    room = Room(slots=2)
    room.on_room(lambda: wakes.append(1))
    return room


def test_a_task_of_any_size_is_taken_while_there_is_room(room: Room) -> None:
    room.take(3)
    had_room = room.tasks_wanted() > 0
    room.take(500)

    assert had_room
    assert room.tasks_wanted() <= 0


def test_more_slots_make_room_and_wake(room: Room, wakes: list[int]) -> None:
    room.take(4)

    room.set_slots(3)

    assert room.tasks_wanted() > 0
    assert len(wakes) == 1


def test_without_slots_nothing_is_wanted() -> None:
    assert Room(slots=0).tasks_wanted() <= 0


def test_room_ends_with_two_lines_for_each_slot(room: Room) -> None:
    room.take(3)
    had_room = room.tasks_wanted() > 0
    room.take(1)

    assert had_room
    assert room.tasks_wanted() <= 0


def test_room_that_comes_up_wakes_once(room: Room, wakes: list[int]) -> None:
    room.take(6)

    for _ in range(6):
        room.line_done()

    assert room.tasks_wanted() > 0
    assert len(wakes) == 1


def test_lines_that_are_not_run_make_room_too(room: Room, wakes: list[int]) -> None:
    room.take(10)

    room.lines_skipped(9)

    assert room.tasks_wanted() > 0
    assert len(wakes) == 1


def test_skipping_lines_of_a_full_house_that_stays_full_wakes_nobody(room: Room, wakes: list[int]) -> None:
    room.take(10)

    room.lines_skipped(2)

    assert room.tasks_wanted() <= 0
    assert wakes == []


def test_a_fast_pace_makes_room_and_a_slow_one_keeps_the_floor(room: Room) -> None:
    room.take(50)

    room.set_pace(1_000.0)
    has_room_when_fast = room.tasks_wanted() > 0
    room.set_pace(0.0)

    assert has_room_when_fast
    assert room.tasks_wanted() <= 0


def test_beside_a_batch_that_hangs_more_lines_are_taken(room: Room, wakes: list[int]) -> None:
    room.take(5)

    room.set_wide(is_wide=True)
    has_room_beside = room.tasks_wanted() > 0
    room.set_wide(is_wide=False)

    assert has_room_beside
    assert room.tasks_wanted() <= 0
    assert len(wakes) == 1


def test_counts_hold_when_many_threads_count() -> None:
    room = Room(slots=1)
    room.take(8_002)
    threads = [threading.Thread(target=lambda: [room.line_done() for _ in range(1_000)]) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert room.tasks_wanted() <= 0
    room.line_done()
    assert room.tasks_wanted() > 0


def test_a_line_that_pauses_leaves_its_room_to_others(room: Room) -> None:
    room.take(8)
    for _ in range(8):
        room.line_done()

    has_room = room.tasks_wanted() > 0
    for _ in range(8):
        room.line_resumed()

    assert has_room
    assert room.tasks_wanted() <= 0


def test_no_more_tasks_are_taken_than_there_may_be_for_the_slots_though_their_lines_all_pause() -> None:
    room = Room(1)
    told: list[str] = []
    room.on_room(lambda: told.append("room"))
    for _ in range(MESSAGES_PER_SLOT):
        room.take(1)
        room.line_done()
    when_full = room.tasks_wanted()
    told.clear()

    room.task_done()

    assert (when_full, room.tasks_wanted(), told) == (0, 1, ["room"])
