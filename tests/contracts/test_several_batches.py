"""Stores of batches change and return one batch without touching the batches beside it."""

from app.domain.lifecycle import Event
from app.services.ports import Move
from tests.contracts.conftest import NOW, Stores


def test_each_batch_of_a_tenant_is_found_by_its_own_id(stores: Stores) -> None:
    batches = [stores.add_batch(f"batch_{number}") for number in range(3)]

    assert [stores.batches.get("tenant", batch.id) for batch in batches] == batches
    assert stores.batches.get("tenant", "batch_unknown") is None


def test_a_cursor_that_moves_changes_no_other_batch(stores: Stores) -> None:
    stores.add_running()
    other = stores.add_running("batch_2")

    assert stores.batches.move_cursor("batch_1", 0, 1) is True

    assert stores.batches.find("batch_2") == other


def test_an_event_moves_no_other_batch(stores: Stores) -> None:
    stores.add_running()
    other = stores.add_running("batch_2")

    stores.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW + 5)

    assert stores.batches.find("batch_2") == other


def test_cursors_of_several_batches_move_together_each_from_where_it_stands(stores: Stores) -> None:
    for number in (1, 2, 3):
        stores.add_running(f"batch_{number}")
    stores.batches.move_cursor("batch_3", 0, 1)

    moved = stores.batches.move_free_cursors(
        [Move("batch_1", 0, 1), Move("batch_2", 0, 2), Move("batch_3", 0, 1), Move("batch_unknown", 0, 1)]
    )

    assert moved == {"batch_1", "batch_2"}
    found = [stores.batches.find(f"batch_{number}") for number in (1, 2, 3)]
    assert [batch.tasks_dispatched for batch in found if batch is not None] == [1, 2, 1]
