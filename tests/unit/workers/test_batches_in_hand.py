import pytest

from app.domain.lifecycle import Event
from app.domain.upstream import DEFAULT_UPSTREAM
from app.services.ports import Planned
from tests.fakes.stores import MemoryBatchStore
from tests.unit.services.pipeline_house import NOW, new_batch
from workers.batches_in_hand import BatchesInHand


class CountedStore(MemoryBatchStore):
    """Counts how often a batch is read."""

    reads = 0

    def find(self, batch_id: str):
        self.reads += 1
        return super().find(batch_id)


@pytest.fixture
def store() -> CountedStore:
    return CountedStore()


@pytest.fixture
def in_hand(store: CountedStore) -> BatchesInHand:
    return BatchesInHand(store)


def add_running(store: MemoryBatchStore, batch_id: str) -> None:
    store.add(new_batch(batch_id))
    store.accept(batch_id, Planned(f"plans/{batch_id}", 1, [(DEFAULT_UPSTREAM, 10)], "small"), NOW)


def test_a_running_batch_is_read_once(store: CountedStore, in_hand: BatchesInHand) -> None:
    add_running(store, "batch_1")

    first, second = in_hand.get("batch_1"), in_hand.get("batch_1")

    assert first is second
    assert first is not None
    assert (first.input_blob, first.plan_blob, first.deadline) == ("files/in", "plans/batch_1", NOW + 86_400)
    assert store.reads == 1


def test_a_batch_tells_of_which_upstream_its_lines_are(store: CountedStore, in_hand: BatchesInHand) -> None:
    store.add(new_batch("batch_1"))
    store.accept("batch_1", Planned("plans/one", 2, [("elsewhere", 3), (DEFAULT_UPSTREAM, 3)], "small"), NOW)
    batch = in_hand.get("batch_1")
    assert batch is not None

    pieces = [(0, 2), (2, 3), (2, 4), (3, 5), (5, 6), (5, 7)]

    assert [piece for piece in pieces if batch.has_lines("elsewhere", *piece)] == [(0, 2), (2, 3)]
    assert [piece for piece in pieces if batch.has_lines(DEFAULT_UPSTREAM, *piece)] == [(3, 5), (5, 6)]


def test_a_batch_that_does_not_run_is_not_given(store: CountedStore, in_hand: BatchesInHand) -> None:
    store.add(new_batch("batch_1"))
    add_running(store, "batch_2")
    store.advance("batch_2", Event.CANCEL_REQUESTED, NOW)

    assert in_hand.get("batch_1") is None
    assert in_hand.get("batch_2") is None
    assert in_hand.get("batch_unknown") is None
    assert in_hand.all() == []


def test_a_stopped_batch_is_not_given_any_more(store: CountedStore, in_hand: BatchesInHand) -> None:
    add_running(store, "batch_1")
    batch = in_hand.get("batch_1")
    assert batch is not None

    batch.is_stopped = True

    assert in_hand.get("batch_1") is None
    assert in_hand.all() == [batch]


def test_a_batch_that_was_stopped_while_another_thread_read_it_is_not_given() -> None:
    class OvertakenStore(CountedStore):
        """While the first reader reads, a second reader gets the batch, and the batch is stopped."""

        def find(self, batch_id: str):
            row = super().find(batch_id)
            if self.reads == 1:
                batch = in_hand.get(batch_id)
                assert batch is not None
                batch.is_stopped = True
            return row

    store = OvertakenStore()
    in_hand = BatchesInHand(store)
    add_running(store, "batch_1")

    assert in_hand.get("batch_1") is None
    assert store.reads == 2


def test_a_forgotten_batch_is_read_again(store: CountedStore, in_hand: BatchesInHand) -> None:
    add_running(store, "batch_1")
    batch = in_hand.get("batch_1")
    assert batch is not None

    in_hand.forget(batch)

    assert in_hand.all() == []
    assert in_hand.get("batch_1") is not None
    assert store.reads == 2


def test_of_many_batches_none_that_runs_is_lost_sight_of(store: CountedStore, in_hand: BatchesInHand) -> None:
    for number in range(300):
        add_running(store, f"batch_{number}")
        in_hand.get(f"batch_{number}")

    assert len(in_hand.all()) == 300
