"""Two hand out the tasks of one batch: each task goes out once."""

from functools import partial

from app.domain.errors import StateConflict
from app.domain.lifecycle import Status
from app.services.ports import Move
from tests.races.conftest import OpenSide
from tests.races.interleaving import COMMIT, at_once, is_sqlite, meanwhile
from tests.races.sides import Side

ROUNDS = 5


def test_of_two_that_move_the_cursor_the_second_waits_and_does_not(one: Side, other: Side) -> None:
    one.add_running()

    first, second, has_waited = meanwhile(
        one,
        lambda: one.batches.move_cursor("batch_1", 0, 2),
        COMMIT,
        other,
        lambda: other.batches.move_cursor("batch_1", 0, 3),
    )

    assert (first, second, has_waited) == (True, False, True)
    assert one.batch().tasks_dispatched == 2


def test_a_cursor_that_another_holds_is_left_out_when_several_move(one: Side, other: Side) -> None:
    for batch_id in ("batch_1", "batch_2"):
        one.add_running(batch_id)

    first, several, has_waited = meanwhile(
        one,
        lambda: one.batches.move_cursor("batch_1", 0, 2),
        COMMIT,
        other,
        lambda: other.batches.move_free_cursors([Move("batch_1", 0, 1), Move("batch_2", 0, 1)]),
    )

    assert (first, several, has_waited) == (True, {"batch_2"}, is_sqlite(one))
    assert one.batch("batch_1").tasks_dispatched == 2


def test_the_cursor_does_not_move_behind_a_cancel(one: Side, other: Side) -> None:
    one.add_running()

    cancelled, is_moved, has_waited = meanwhile(
        one, one.cancel, COMMIT, other, lambda: other.batches.move_cursor("batch_1", 0, 3)
    )

    assert (is_moved, has_waited) == (False, True)
    assert one.batch() == cancelled
    assert one.batch().tasks_dispatched == 0


def test_a_cancel_behind_the_cursor_sees_what_was_handed_out(one: Side, other: Side) -> None:
    one.add_running()

    is_moved, cancelled, has_waited = meanwhile(
        one, lambda: one.batches.move_cursor("batch_1", 0, 3), COMMIT, other, other.cancel
    )

    assert (is_moved, has_waited) == (True, True)
    assert not isinstance(cancelled, StateConflict)
    assert (cancelled.status, cancelled.lines_outstanding) == (Status.CANCELLING, 3)


def test_of_several_at_once_each_task_is_published_by_one(open_side: OpenSide) -> None:
    sides = [open_side() for _ in range(4)]
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        sides[0].add_running(batch_id)

        at_once([partial(side.dispatch().refill) for side in sides])

        published = [task for side in sides for owner, task in side.queue.published if owner == batch_id]
        assert sorted(published) == [0, 1, 2]
        assert sides[0].batch(batch_id).tasks_dispatched == 3
