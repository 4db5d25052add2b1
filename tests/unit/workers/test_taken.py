import threading

import pytest

from workers.taken import Taken


@pytest.fixture
def wakes() -> list[int]:
    return []


@pytest.fixture
def taken(wakes: list[int]) -> Taken:
    taken = Taken(concurrency=2)
    taken.on_room(lambda: wakes.append(1))
    return taken


def test_room_ends_with_two_lines_for_each_slot(taken: Taken) -> None:
    taken.add("a", 3)
    had_room = taken.room() > 0
    taken.add("b", 1)

    assert had_room
    assert taken.room() <= 0


def test_a_task_of_any_size_is_taken_while_there_is_room(taken: Taken) -> None:
    taken.add("a", 500)

    assert taken.room() <= 0
    assert taken.task_ids() == ("a",)


def test_room_that_comes_up_wakes_once(taken: Taken, wakes: list[int]) -> None:
    taken.add("a", 6)

    for _ in range(6):
        taken.line_done()

    assert taken.room() > 0
    assert len(wakes) == 1


def test_lines_that_are_not_run_make_room_too(taken: Taken, wakes: list[int]) -> None:
    taken.add("a", 10)

    taken.lines_skipped(9)

    assert taken.room() > 0
    assert len(wakes) == 1


def test_skipping_lines_of_a_full_house_that_stays_full_wakes_nobody(taken: Taken, wakes: list[int]) -> None:
    taken.add("a", 10)

    taken.lines_skipped(2)

    assert taken.room() <= 0
    assert wakes == []


def test_of_a_task_that_came_twice_the_first_copy_to_begin_runs(taken: Taken) -> None:
    taken.add("a", 1, term=3)
    taken.add("a", 1, term=3)

    begun = [taken.begin("a"), taken.begin("a")]
    taken.remove("a")
    is_held_while_the_first_runs = taken.task_ids() == ("a",)
    begun_again = taken.begin("a")
    taken.remove("a")

    assert begun == [3, None]
    assert is_held_while_the_first_runs
    assert begun_again is None
    assert taken.task_ids() == ()


def test_a_task_that_ended_and_comes_again_begins_again(taken: Taken) -> None:
    taken.add("a", 1, term=1)
    taken.begin("a")
    taken.remove("a")

    taken.add("a", 1, term=2)

    assert taken.begin("a") == 2


def test_a_copy_that_came_in_a_new_term_makes_up_for_one_of_an_old_term(taken: Taken) -> None:
    taken.add("a", 1, term=1)
    taken.add("a", 1, term=2)

    assert taken.begin("a") == 2


def test_a_task_is_held_until_it_is_removed_even_when_its_lines_are_done(taken: Taken) -> None:
    taken.add("a", 1)
    taken.line_done()
    held = taken.task_ids()

    taken.remove("a")

    assert held == ("a",)
    assert taken.task_ids() == ()


def test_a_fast_pace_makes_room_and_a_slow_one_keeps_the_floor(taken: Taken) -> None:
    taken.add("a", 50)

    taken.set_pace(1_000.0)
    has_room_when_fast = taken.room() > 0
    taken.set_pace(0.0)

    assert has_room_when_fast
    assert taken.room() <= 0


def test_counts_hold_when_many_threads_count() -> None:
    taken = Taken(concurrency=1)
    taken.add("a", 8_002)
    threads = [threading.Thread(target=lambda: [taken.line_done() for _ in range(1_000)]) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert taken.room() <= 0
    taken.line_done()
    assert taken.room() > 0


def test_a_line_that_pauses_leaves_its_room_to_others(taken: Taken) -> None:
    taken.add("a", 8)
    for _ in range(8):
        taken.line_done()

    has_room = taken.room() > 0
    for _ in range(8):
        taken.line_resumed()

    assert has_room
    assert taken.room() <= 0


def test_a_task_that_is_not_held_does_not_begin() -> None:
    assert Taken(4).begin("task-unknown") is None
