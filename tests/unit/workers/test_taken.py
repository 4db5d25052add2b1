import pytest

from workers.taken import Taken


@pytest.fixture
def taken() -> Taken:
    return Taken()


def test_of_a_task_that_came_twice_the_first_copy_to_begin_runs(taken: Taken) -> None:
    taken.add("a", term=3)
    taken.add("a", term=3)

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
    taken.add("a", term=1)
    taken.begin("a")
    taken.remove("a")

    taken.add("a", term=2)

    assert taken.begin("a") == 2


def test_a_copy_that_came_in_a_new_term_makes_up_for_one_of_an_old_term(taken: Taken) -> None:
    taken.add("a", term=1)
    taken.add("a", term=2)

    assert taken.begin("a") == 2


def test_a_task_is_held_until_it_is_removed(taken: Taken) -> None:
    taken.add("a")
    held = taken.task_ids()

    taken.remove("a")

    assert held == ("a",)
    assert taken.task_ids() == ()


def test_a_task_that_is_not_held_does_not_begin() -> None:
    assert Taken().begin("task-unknown") is None
