"""Stores of batches change and return one batch without touching the batches beside it."""

from app.domain.lifecycle import Event
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
