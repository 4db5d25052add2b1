from collections.abc import Callable

from tests.contracts.conftest import Stores


def test_a_kind_that_was_never_counted_has_no_count_and_no_clock(stores: Stores) -> None:
    assert stores.ticks.done() == {}
    assert stores.ticks.clock("expire") is None


def test_counts_of_two_processes_add_up(open_stores: Callable[[], Stores]) -> None:
    first, second = open_stores(), open_stores()

    first.ticks.note({"expire": 2, "repair": 1}, 10.0)
    second.ticks.note({"refill": 1, "expire": 3}, 20.0)

    assert first.ticks.done() == {"expire": 5, "repair": 1, "refill": 1}


def test_the_clock_of_who_counted_last_stays_also_where_it_is_behind(stores: Stores) -> None:
    stores.ticks.note({"expire": 1}, 5_000.0)
    stores.ticks.note({"expire": 1}, 1_400.0)
    stores.ticks.note({"files": 1}, 9_000.0)

    assert stores.ticks.clock("expire") == 1_400.0
    assert stores.ticks.clock("files") == 9_000.0
