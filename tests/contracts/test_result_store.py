"""What every store of results promises."""

import tracemalloc

import pytest

from app.domain.batch import Usage
from app.domain.lifecycle import Event, Status
from app.domain.limits import MIB
from app.domain.result import Result
from app.services.ports import Progress
from tests.contracts.conftest import NOW, Stores, result


def counts(stores: Stores, batch_id: str = "batch_1") -> tuple[int, int]:
    batch = stores.batches.find(batch_id)
    assert batch is not None
    return batch.completed, batch.failed


def test_results_are_counted_by_how_they_came_out(stores: Stores) -> None:
    stores.add_running()

    stores.results.record([result(0), result(1, ok=False), result(2)])

    assert counts(stores) == (2, 1)


def test_a_line_is_recorded_once_and_its_first_result_stays(stores: Stores) -> None:
    stores.add_running()
    stores.results.record([result(0, payload=b"first")])

    stores.results.record([result(0, ok=False, payload=b"second"), result(1)])

    assert counts(stores) == (2, 0)
    assert [payload for _, _, payload, _ in stores.results.read("batch_1")] == [b"first", b"{}"]


def test_a_line_twice_in_one_call_counts_once(stores: Stores) -> None:
    stores.add_running()

    stores.results.record([result(0), result(0)])

    assert counts(stores) == (1, 0)


def test_progress_says_what_is_dispatched_and_recorded_whole(stores: Stores) -> None:
    stores.add_running(total=3)
    stores.batches.move_cursor("batch_1", 0, 1)

    first = stores.results.record([result(0)])
    stores.batches.move_cursor("batch_1", 1, 2)
    then = stores.results.record([result(1)])
    last = stores.results.record([result(1), result(2)])

    assert first == [Progress("batch_1", False, False, 1)]
    assert then == [Progress("batch_1", True, False, 1)]
    assert last == [Progress("batch_1", True, True, 0)]


def test_results_recorded_again_after_a_commit_of_unknown_outcome_say_that_the_batch_is_recorded_whole(
    stores: Stores,
) -> None:
    stores.add_running(total=2)
    stores.add_mixed("batch_2", {"gpu": 1, "cpu": 1})
    of_both = [result(0), result(1), result(0, batch_id="batch_2")]
    stores.batches.move_cursor("batch_1", 0, 1)
    first = stores.results.record(of_both)

    again = stores.results.record(of_both)

    assert again == first
    assert {one.batch_id: one.is_recorded_whole for one in again} == {"batch_1": True, "batch_2": False}


def test_results_of_several_batches_are_recorded_together(stores: Stores) -> None:
    stores.add_running("batch_1")
    stores.add_running("batch_2", total=1)

    progress = stores.results.record([result(0), result(0, batch_id="batch_2"), result(1)])

    assert (counts(stores, "batch_1"), counts(stores, "batch_2")) == ((2, 0), (1, 0))
    assert {one.batch_id: one.is_recorded_whole for one in progress} == {"batch_1": False, "batch_2": True}


def test_recording_nothing_is_no_error(stores: Stores) -> None:
    assert stores.results.record([]) == []


@pytest.mark.parametrize("event", [Event.CANCEL_REQUESTED, Event.WINDOW_ELAPSED])
def test_a_batch_that_drains_still_takes_results(stores: Stores, event: Event) -> None:
    stores.add_running()
    stores.batches.advance("batch_1", event, NOW)

    stores.results.record([result(0)])

    assert counts(stores) == (1, 0)


def test_a_sealed_batch_takes_no_result(stores: Stores) -> None:
    stores.add_running()
    stores.batches.advance("batch_1", Event.CANCEL_REQUESTED, NOW)
    stores.batches.lease("batch_1", "mine")
    stores.batches.seal("batch_1", "mine", NOW)

    progress = stores.results.record([result(0)])

    assert progress == []
    assert counts(stores) == (0, 0)
    assert list(stores.results.read("batch_1")) == []


@pytest.mark.parametrize(
    "status", [Status.VALIDATING, Status.FINALIZING, Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED]
)
def test_a_batch_that_is_not_recording_takes_no_result(stores: Stores, status: Status) -> None:
    stores.add_in(status)
    before = counts(stores)

    stores.results.record([result(7)])

    assert counts(stores) == before
    assert stores.results.recorded("batch_1", 7, 8) == set()


def test_results_of_no_batch_are_dropped_and_the_others_kept(stores: Stores) -> None:
    stores.add_running()

    stores.results.record([result(0, batch_id="batch_unknown"), result(0)])

    assert counts(stores) == (1, 0)
    assert list(stores.results.read("batch_unknown")) == []


def test_recorded_names_the_positions_in_a_span(stores: Stores) -> None:
    stores.add_running(total=10)
    stores.results.record([result(position) for position in (0, 3, 4, 9)])

    assert stores.results.recorded("batch_1", 3, 9) == {3, 4}
    assert stores.results.recorded("batch_1", 5, 9) == set()


def test_the_lines_handed_out_without_a_result_are_named(stores: Stores) -> None:
    stores.add_running("batch_1", total=10)
    stores.add_running("batch_2", total=10)
    stores.add_mixed("batch_mixed", {"gpu": 5, "cpu": 5}, per_task=2)
    stores.add_running("batch_recorded", total=2)
    stores.add_running("batch_cancelled", total=2)
    for batch_id, tasks in (("batch_1", (0, 4)), ("batch_mixed", (0, 2)), ("batch_mixed", (3, 6))):
        assert stores.batches.move_cursor(batch_id, *tasks)
    for batch_id in ("batch_recorded", "batch_cancelled"):
        assert stores.batches.move_cursor(batch_id, 0, 1)
    stores.results.record([result(position) for position in (0, 3, 4, 5)])
    stores.results.record([result(position, batch_id="batch_mixed") for position in (1, 3, 8)])
    stores.results.record([result(position, batch_id="batch_recorded") for position in (0, 1)])
    stores.batches.advance("batch_cancelled", Event.CANCEL_REQUESTED, NOW)
    asked = ["batch_1", "batch_2", "batch_mixed", "batch_recorded", "batch_cancelled", "batch_unknown"]

    assert stores.results.unrecorded(asked) == {"batch_1": [1, 2, 6, 7], "batch_mixed": [0, 2, 5, 6, 7, 9]}
    assert stores.results.unrecorded(["batch_2"]) == stores.results.unrecorded([]) == {}


def test_what_is_asked_of_a_batch_is_answered_without_the_results_of_others(stores: Stores) -> None:
    for batch_id in ("batch_1", "batch_2"):
        stores.add_running(batch_id, total=10)
    stores.results.record([result(0, payload=b"ours"), result(0, batch_id="batch_2"), result(5, batch_id="batch_2")])

    assert stores.results.recorded("batch_1", 0, 10) == {0}
    assert [payload for _, _, payload, _ in stores.results.read("batch_1")] == [b"ours"]
    assert [payload for _, _, payload, _ in stores.results.read_in("batch_1", range(10))] == [b"ours"]


def test_results_are_read_in_order_with_all_they_hold(stores: Stores) -> None:
    stores.add_running(total=2_000)
    payloads = {position: b"\x00\xff%d" % position for position in range(1_200)}
    new = [
        Result("batch_1", position, position % 2 == 0, data, Usage(1, 2, 3, position))
        for position, data in payloads.items()
    ]
    stores.results.record(new[::-1])

    read = list(stores.results.read("batch_1"))

    assert read == [(one.position, one.ok, one.payload, one.usage) for one in new]


def test_results_are_read_in_any_order_without_those_that_are_missing(stores: Stores) -> None:
    stores.add_running("batch_1", total=2_000)
    stores.add_running("batch_2", total=2_000)
    new = {
        position: Result("batch_1", position, position % 2 == 0, b"\x00\xff%d" % position, Usage(1, 2, 3, position))
        for position in range(0, 1_800, 3)
    }
    stores.results.record([*new.values(), result(1, batch_id="batch_2")])
    # Each position once, and 7 places from the one before.
    order = [position * 7 % 1_999 for position in range(1_999)]

    read = list(stores.results.read_in("batch_1", order))

    expected = [new[position] for position in order if position in new]
    assert read == [(one.position, one.ok, one.payload, one.usage) for one in expected]
    assert len(expected) == 600
    assert list(stores.results.read_in("batch_1", [])) == []
    assert list(stores.results.read_in("batch_unknown", order)) == []


@pytest.mark.parametrize("is_ordered", [False, True], ids=["in the order of the plan", "in another order"])
def test_large_results_are_in_memory_a_few_at_a_time(stores: Stores, is_ordered: bool) -> None:
    stores.add_running(total=1_000)
    # 68 MiB in all, one larger than what is read at once, and many small ones between them.
    sizes = {position: 100 if position % 25 else (1 + position % 2) * MIB for position in range(1_000)} | {300: 9 * MIB}
    for position, size in sizes.items():
        if size > 100:
            stores.results.record([result(position, payload=bytes(size))])
    stores.results.record([result(position, payload=bytes(100)) for position, size in sizes.items() if size == 100])
    order = [position * 7 % 1_000 for position in range(1_000)] if is_ordered else list(range(1_000))

    tracemalloc.start()
    rows = stores.results.read_in("batch_1", order) if is_ordered else stores.results.read("batch_1")
    read = [(position, len(payload)) for position, _, payload, _ in rows]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert read == [(position, sizes[position]) for position in order]
    # Some 8 MiB, and the largest, which the reader has in hand while the next ones are read.
    assert peak < 18 * MIB


def test_results_of_every_size_come_back_in_every_order(stores: Stores) -> None:
    # Of some segments a good part is read at once, and of others a small part.
    sizes = [0, 1, 300, 5_000, 70_000, MIB, MIB + 1] * 40
    payloads = [bytes([position % 251]) * size for position, size in enumerate(sizes)]
    stores.add_running(total=len(sizes))
    order = [position * 83 % len(sizes) for position in range(len(sizes))]
    for some in (order[:100], order[100:]):
        stores.results.record([result(position, payload=payloads[position]) for position in some])

    for wanted in (list(range(len(sizes))), order, order[::-7], [7], []):
        read = [(position, payload) for position, _, payload, _ in stores.results.read_in("batch_1", wanted)]
        assert read == [(position, payloads[position]) for position in wanted]


def test_results_are_cleared_once_their_files_are_written(stores: Stores) -> None:
    stores.add_in(Status.COMPLETED, "batch_1")
    stores.add_in(Status.CANCELLED, "batch_2")
    stores.add_recorded("batch_3")

    # The real ones may need a call to find that a batch has none left.
    for _ in range(20):
        if not stores.results.clear(2):
            break

    assert list(stores.results.read("batch_1")) == []
    assert list(stores.results.read("batch_2")) == []
    assert len(list(stores.results.read("batch_3"))) == 3
    assert stores.results.clear(2) == 0


def test_a_batch_that_failed_while_finalizing_keeps_its_results(stores: Stores) -> None:
    stores.add_in(Status.FINALIZING)
    stores.batches.advance("batch_1", Event.GAVE_UP, NOW)

    assert stores.results.clear(10) == 0
    assert len(list(stores.results.read("batch_1"))) == 3
