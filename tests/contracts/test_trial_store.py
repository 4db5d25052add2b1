from collections.abc import Callable

import pytest

from app.domain.lifecycle import Status
from app.domain.result import Met
from tests.contracts.conftest import Stores


def test_a_line_that_never_came_to_an_end_is_found_begun(open_stores: Callable[[], Stores]) -> None:
    first, second = open_stores(), open_stores()

    assert first.trials.begin("batch_1", 7) == 0
    assert second.trials.begin("batch_1", 7) == 1
    assert first.trials.begin("batch_1", 7) == 2


def test_a_line_that_ended_is_forgotten(stores: Stores) -> None:
    stores.trials.begin("batch_1", 7)
    stores.trials.end("batch_1", 7)

    assert stores.trials.begin("batch_1", 7) == 0


def test_each_line_has_a_count_of_its_own(stores: Stores) -> None:
    stores.trials.begin("batch_1", 7)

    assert stores.trials.begin("batch_1", 8) == 0
    assert stores.trials.begin("batch_2", 7) == 0


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED, Status.EXPIRED, Status.FAILED])
def test_lines_of_batches_that_ended_are_cleared(stores: Stores, status: Status) -> None:
    stores.add_in(status, "batch_over")
    stores.add_in(Status.IN_PROGRESS, "batch_running")
    for batch_id in ("batch_over", "batch_running"):
        stores.trials.begin(batch_id, 0)

    assert stores.trials.clear() == 1
    assert stores.trials.begin("batch_running", 0) == 1
    assert stores.trials.begin("batch_over", 0) == 0


def test_clearing_without_any_line_is_nothing(stores: Stores) -> None:
    assert stores.trials.clear() == 0


def test_what_lines_met_is_found_by_their_batch(stores: Stores) -> None:
    stores.trials.note({("batch_1", 7): Met(3, "503"), ("batch_1", 8): Met(1, "429"), ("batch_2", 7): Met(2, "500")})

    assert stores.trials.met("batch_1") == {7: Met(3, "503"), 8: Met(1, "429")}
    assert stores.trials.met("batch_3") == {}


def test_what_a_line_met_last_stays_with_the_most_tries_that_were_noted(stores: Stores) -> None:
    stores.trials.note({("batch_1", 7): Met(3, "503")})
    stores.trials.note({("batch_1", 7): Met(1, "429")})

    assert stores.trials.met("batch_1") == {7: Met(3, "429")}


def test_noting_nothing_is_nothing(stores: Stores) -> None:
    stores.trials.note({})

    assert stores.trials.met("batch_1") == {}


def test_what_lines_of_batches_that_ended_met_is_cleared(stores: Stores) -> None:
    stores.add_in(Status.EXPIRED, "batch_over")
    stores.add_in(Status.IN_PROGRESS, "batch_running")
    stores.trials.note({("batch_over", 0): Met(1, "503"), ("batch_running", 0): Met(1, "503")})

    assert stores.trials.clear() == 1
    assert stores.trials.met("batch_over") == {}
    assert stores.trials.met("batch_running") == {0: Met(1, "503")}
