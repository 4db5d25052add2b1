"""Workers and dispatchers of several upstreams write to one batch: what each wrote is kept."""

from collections.abc import Callable
from functools import partial

import pytest

from app.domain.batch import Batch
from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, at_once, is_sqlite, meanwhile
from tests.races.sides import LINES, Side, result

ROUNDS = 10
# The first line and task of each of the two sections.
GPU, CPU = 0, LINES


def cursors(batch: Batch) -> list[int]:
    return [section.next_task for section in batch.sections]


def recorded(batch: Batch) -> list[int]:
    return [section.recorded for section in batch.sections]


@pytest.mark.parametrize("at", ["INSERT INTO segments", "UPDATE sections", COMMIT])
def test_records_for_two_upstreams_wait_for_each_other_only_where_one_lock_is_for_all(
    one: Side, other: Side, at: str
) -> None:
    one.add_mixed()

    _, progress, has_waited = meanwhile(
        one, lambda: one.record(result(GPU), result(GPU + 1)), at, other, lambda: other.record(result(CPU))
    )

    assert has_waited == is_sqlite(one)
    assert [part.upstream for part in progress] == ["cpu"]
    assert recorded(one.batch()) == [2, 1]


@pytest.mark.parametrize("at", ["INSERT INTO segments", "UPDATE sections", COMMIT])
def test_results_that_two_record_for_two_upstreams_are_counted_for_each(one: Side, other: Side, at: str) -> None:
    one.add_mixed()

    _, progress, has_waited = meanwhile(
        one,
        lambda: one.record(result(GPU), result(GPU + 1), result(CPU)),
        at,
        other,
        lambda: other.record(result(CPU + 1)),
    )

    assert has_waited
    assert [part.upstream for part in progress] == ["cpu"]
    assert recorded(one.batch()) == [2, 2]
    assert one.batch().completed == 4


def test_a_line_that_two_record_counts_once_for_its_upstream(one: Side, other: Side) -> None:
    one.add_mixed()

    meanwhile(
        one,
        lambda: one.record(result(CPU)),
        COMMIT,
        other,
        lambda: other.record(result(CPU), result(CPU + 1), result(GPU)),
    )

    assert recorded(one.batch()) == [1, 2]
    assert one.batch().completed == 3


def moving(side: Side, task: int, tasks: int = 2) -> Callable[[], object]:
    return lambda: side.batches.move_cursor("batch_1", task, task + tasks)


def recording(side: Side, position: int) -> Callable[[], object]:
    return lambda: side.record(result(position))


@pytest.mark.parametrize("at", ["UPDATE sections", COMMIT])
@pytest.mark.parametrize("section", [GPU, CPU], ids=["the same upstream", "another upstream"])
def test_a_cursor_that_moves_amid_a_record_of_its_section_waits_and_both_are_kept(
    one: Side, other: Side, section: int, at: str
) -> None:
    one.add_mixed()

    _, is_moved, has_waited = meanwhile(one, recording(one, GPU), at, other, moving(other, section))

    assert (is_moved, has_waited) == (True, section == GPU or is_sqlite(one))
    assert recorded(one.batch()) == [1, 0]
    assert cursors(one.batch()) == ([2, CPU] if section == GPU else [GPU, CPU + 2])
    assert one.batch().tasks_dispatched == 2


@pytest.mark.parametrize("section", [GPU, CPU], ids=["the same upstream", "another upstream"])
def test_a_record_amid_a_move_of_its_sections_cursor_waits_and_both_are_kept(
    one: Side, other: Side, section: int
) -> None:
    one.add_mixed()

    is_moved, progress, has_waited = meanwhile(one, moving(one, GPU), COMMIT, other, recording(other, section))

    assert (is_moved, has_waited) == (True, section == GPU or is_sqlite(one))
    assert len(progress) == 1
    assert cursors(one.batch()) == [2, CPU]
    assert recorded(one.batch()) == ([1, 0] if section == GPU else [0, 1])


def test_of_two_that_move_a_sections_cursor_the_second_waits_and_does_not(one: Side, other: Side) -> None:
    one.add_mixed()

    first, second, has_waited = meanwhile(one, moving(one, CPU), COMMIT, other, moving(other, CPU, 3))

    assert (first, second, has_waited) == (True, False, True)
    assert cursors(one.batch()) == [GPU, CPU + 2]
    assert one.batch().tasks_dispatched == 2


def test_cursors_of_two_sections_move_beside_each_other_and_both_are_kept(one: Side, other: Side) -> None:
    one.add_mixed()

    first, second, has_waited = meanwhile(one, moving(one, GPU), COMMIT, other, moving(other, CPU))

    assert (first, second, has_waited) == (True, True, is_sqlite(one))
    assert cursors(one.batch()) == [2, CPU + 2]
    assert one.batch().tasks_dispatched == 4


def test_a_sections_cursor_does_not_move_behind_a_cancel(one: Side, other: Side) -> None:
    one.add_mixed()

    cancelled, is_moved, has_waited = meanwhile(one, one.cancel, COMMIT, other, moving(other, CPU))

    assert (is_moved, has_waited) == (False, True)
    assert one.batch() == cancelled


def test_a_cancel_and_records_of_several_sections_never_wait_for_each_other(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    for number in range(3 * ROUNDS):
        batch_id = f"batch_{number}"
        sides[0].add_mixed(batch_id)
        both = [result(position, batch_id) for position in (GPU, CPU)]

        # A deadlock would be an error of one of them.
        outcomes = at_once(
            [
                partial(sides[0].record, *both),
                partial(sides[1].cancel, batch_id),
                partial(sides[2].record, *both[::-1]),
                partial(sides[3].record, result(GPU + 1, batch_id), result(CPU + 1, batch_id)),
            ]
        )

        assert [len(outcome) for outcome in (outcomes[0], *outcomes[2:])] == [2, 2, 2]
        assert recorded(sides[0].batch(batch_id)) == [2, 2]


def test_whoever_writes_at_once_everything_is_kept(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        sides[0].add_mixed(batch_id)

        at_once(
            [
                partial(sides[0].record, *(result(position, batch_id) for position in range(GPU, GPU + LINES - 1))),
                partial(sides[1].record, *(result(position, batch_id) for position in range(CPU, CPU + LINES - 1))),
                sides[2].dispatch("gpu").refill,
                sides[3].dispatch("cpu").refill,
            ]
        )
        # A refill reads in several statements, and misses a batch that others move between two of them: the next refill
        # finds it, as long as it lacks results.
        sides[2].dispatch("gpu").refill()
        sides[3].dispatch("cpu").refill()

        batch = sides[0].batch(batch_id)
        assert recorded(batch) == [LINES - 1, LINES - 1]
        assert cursors(batch) == [GPU + LINES, CPU + LINES]
        assert (batch.completed, batch.tasks_dispatched) == (2 * LINES - 2, 2 * LINES)
