"""Two at once, by connections of their own: one wins, and nothing counts twice."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import TypeVar

from app.domain.errors import StateConflict
from app.domain.lifecycle import Event, Status
from tests.contracts.conftest import NOW, Stores, result

T = TypeVar("T")
ROUNDS = 5
WAIT_S = 30


def at_once(calls: Sequence[Callable[[], T]]) -> list[T | StateConflict]:
    """Run the calls at the same moment; a StateConflict is returned in place of a value."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | StateConflict:
        barrier.wait(WAIT_S)
        try:
            return call()
        except StateConflict as conflict:
            return conflict

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_of_two_that_advance_a_batch_one_wins(open_stores: Callable[[], Stores]) -> None:
    first, second = open_stores(), open_stores()
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        first.add_running(batch_id)

        outcomes = at_once(
            [
                partial(first.batches.advance, batch_id, Event.WINDOW_ELAPSED, NOW),
                partial(second.batches.advance, batch_id, Event.CANCEL_REQUESTED, NOW),
            ]
        )

        conflicts = [outcome for outcome in outcomes if isinstance(outcome, StateConflict)]
        winner = next(outcome for outcome in outcomes if not isinstance(outcome, StateConflict))
        assert len(conflicts) == 1
        assert first.batches.find(batch_id) == winner


def test_a_line_recorded_by_several_at_once_counts_once(open_stores: Callable[[], Stores]) -> None:
    several = [open_stores() for _ in range(4)]
    several[0].add_running("batch_1", total=40)
    several[0].add_running("batch_2", total=40)
    # In orders that would lock each other out if rows were locked as they come.
    new = [result(position, batch_id=batch_id) for position in range(40) for batch_id in ("batch_1", "batch_2")]
    orders = [new, new[::-1], new[40:] + new[:40], sorted(new)]

    at_once([partial(one.results.record, order) for one, order in zip(several, orders, strict=True)])

    for batch_id in ("batch_1", "batch_2"):
        batch = several[0].batches.find(batch_id)
        assert batch is not None
        assert (batch.completed, batch.failed) == (40, 0)
        assert len(list(several[0].results.read(batch_id))) == 40


def test_of_several_that_lease_a_batch_one_gets_it(open_stores: Callable[[], Stores]) -> None:
    several = [open_stores() for _ in range(4)]
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        several[0].add_batch(batch_id)

        got = at_once([partial(one.batches.lease, batch_id, str(id(one)), NOW, 60) for one in several])

        assert got.count(True) == 1


def test_of_several_that_move_the_cursor_one_does(open_stores: Callable[[], Stores]) -> None:
    several = [open_stores() for _ in range(4)]
    several[0].add_running(total=100)

    moved = at_once([partial(one.batches.move_cursor, "batch_1", 0, 5) for one in several])

    assert moved.count(True) == 1


def test_a_result_beside_the_seal_is_either_counted_or_dropped(open_stores: Callable[[], Stores]) -> None:
    recorder, sealer = open_stores(), open_stores()
    for number in range(ROUNDS):
        batch_id = f"batch_{number}"
        recorder.add_running(batch_id)
        recorder.batches.advance(batch_id, Event.CANCEL_REQUESTED, NOW)
        sealer.batches.lease(batch_id, "mine", NOW, 60)

        _, sealed = at_once(
            [
                partial(recorder.results.record, [result(0, batch_id=batch_id)]),
                partial(sealer.batches.seal, batch_id, "mine", NOW),
            ]
        )

        # What was sealed is what stays: no result comes in behind it.
        after = sealer.batches.find(batch_id)
        assert after == sealed
        assert after is not None
        assert after.status is Status.CANCELLING
        assert len(list(sealer.results.read(batch_id))) == after.recorded


def test_one_claim_of_an_idempotency_key_wins(open_stores: Callable[[], Stores]) -> None:
    several = [open_stores() for _ in range(4)]

    stored = at_once(
        [
            partial(one.idempotency.claim, "tenant", "key", "print", f"batch_{number}", NOW)
            for number, one in enumerate(several)
        ]
    )

    assert len(set(map(str, stored))) == 1
